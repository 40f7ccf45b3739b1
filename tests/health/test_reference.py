"""Whole values written out by hand from the specifications, and the line that `iomt-gateway decode` answers to each.

The answers are compared as text, so that every digit counts.
"""

import pytest

from gateway.health.line import decode_line

TOLD = {
    # Glucose: 104 mg/dL; 5.50 mmol/L; a result that is too high; meters without a date; reserved flags.
    "2A18 02 0100 e807020d0c0b0a 68b0 11": '"sequence_number": 1, "base_time": "2024-02-13T12:11:10",'
    ' "concentration": 0.00104, "type": 1, "location": 1, "unit": "kg/L", "context_follows": false, "mg_dl": 104,'
    ' "mmol_l": 5.77',
    "2A18 1f ffff ea070b170a1e00 c4ff 26b2 f8 0008": '"sequence_number": 65535, "base_time": "2026-11-23T10:30:00",'
    ' "time_offset_min": -60, "concentration": 0.00550, "type": 8, "location": 15, "unit": "mol/L", "status": 2048,'
    ' "context_follows": true, "mg_dl": 99.09, "mmol_l": 5.50',
    "2A18 08 0200 00000000000000 2000": '"sequence_number": 2, "base_time": "0000-00-00T00:00:00", "status": 32,'
    ' "context_follows": false',
    "2A18 03 0300 e8070000000000 ff7f ff07 1a": '"sequence_number": 3, "base_time": "2024-00-00T00:00:00",'
    ' "time_offset_min": null, "time_offset_min_special": "+INF", "concentration": null,'
    ' "concentration_special": "NaN", "type": 10, "location": 1, "unit": "kg/L", "context_follows": false,'
    ' "mg_dl": null, "mg_dl_special": "NaN", "mmol_l": null, "mmol_l_special": "NaN"',
    "2A18 e1 0400 e807020d0c0b0a 0080": '"sequence_number": 4, "base_time": "2024-02-13T12:11:10",'
    ' "time_offset_min": null, "time_offset_min_special": "-INF", "context_follows": false, "rfu_flags": 224',
    "2A34 ff 0100 80 03 2dd0 01 51 100e 4b 04 05a0 41f0": '"sequence_number": 1, "extended_flags": 128, "carb_id": 3,'
    ' "carb_kg": 0.045, "meal": 1, "tester": 1, "health": 5, "exercise_s": 3600, "exercise_pct": 75, "med_id": 4,'
    ' "medication": 0.000005, "med_unit": "L", "hba1c_pct": 6.5, "flags": 255',
    "2A34 08 0100 ffff 64": '"sequence_number": 1, "exercise_s": null, "exercise_s_special": "+INF",'
    ' "exercise_pct": 100, "flags": 8',
    "2A34 00 0100": '"sequence_number": 1, "flags": 0',
    "2A51 ff07": '"features": 2047',
    # Record access: requests by sequence, range and time; answers.
    "2A52 0101": '"op": 1, "operator": 1',
    "2A52 0403010500": '"op": 4, "operator": 3, "filter": 1, "operand": [5]',
    "2A52 010401 0500 0a00": '"op": 1, "operator": 4, "filter": 1, "operand": [5, 10]',
    "2A52 010302 e807020d0c0b0a": '"op": 1, "operator": 3, "filter": 2, "operand": ["2024-02-13T12:11:10"]',
    "2A52 0300": '"op": 3, "operator": 0',
    "2A52 05000a00": '"op": 5, "operator": 0, "count": 10',
    "2A52 0500 70110100": '"op": 5, "operator": 0, "count": 70000',
    "2A52 06000106": '"op": 6, "operator": 0, "request": 1, "code": 6',
    "2A52 0600f0f1": '"op": 6, "operator": 0, "request": 240, "code": 241',
    # Continuous glucose: octets of the status in their order; two records; a wrong CRC in the second.
    "2AA7 06 00 7800 0500": '"records": [{"glucose_mg_dl": 120, "time_offset_min": 5}]',
    "2AA7 0d e3 7800 0500 01 04 08 f1ff 5f00": '"records": [{"glucose_mg_dl": 120, "time_offset_min": 5, "status": 1,'
    ' "cal_temp": 4, "warning": 8, "trend": -1.5, "quality_pct": 95}]',
    "2AA7 07 20 0208 0600 04": '"records": [{"glucose_mg_dl": null, "glucose_mg_dl_special": "-INF",'
    ' "time_offset_min": 6, "warning": 4}]',
    "2AA7 06 1c 0108 ffff": '"records": [{"glucose_mg_dl": null, "glucose_mg_dl_special": "RFU",'
    ' "time_offset_min": 65535, "rfu_flags": 28}]',
    "2AA7 0600 7800 0500 0600 7900 0600": '"records": [{"glucose_mg_dl": 120, "time_offset_min": 5},'
    ' {"glucose_mg_dl": 121, "time_offset_min": 6}]',
    "2AA7 0800 7800 0500 0de8 0800 7900 0600 0000": '"records": [{"glucose_mg_dl": 120, "time_offset_min": 5,'
    ' "crc": 59405}], "cut_short": true',
    "2AA8 00a000 59 ffff": '"features": 40960, "type": 9, "location": 5, "crc": 65535',
    "2AA8 001000 59 f049": '"features": 4096, "type": 9, "location": 5, "crc": 18928',
    "2AA8 000000 f0 0000": '"features": 0, "type": 0, "location": 15, "crc": 0',
    "2AA9 0500 01 02 03 2b4d": '"time_offset_min": 5, "status": 1, "cal_temp": 2, "warning": 3, "crc": 19755',
    "2AAA e807020d0c0b0a 04 04 2e9f": '"start": "2024-02-13T12:11:10", "time_zone": 4, "dst": 4, "crc": 40750,'
    ' "utc_offset_min": 120',
    "2AAB 5001 c632": '"run_time_h": 336, "crc": 12998',
    "2AAC 03 05 7d8d": '"op": 3, "interval_min": 5, "crc": 36221',
    "2AA9 0500 01 02 03": '"time_offset_min": 5, "status": 1, "cal_temp": 2, "warning": 3',
    "2AAA e807020d0c0b0a 04 04": '"start": "2024-02-13T12:11:10", "time_zone": 4, "dst": 4, "utc_offset_min": 120',
    "2AAA e807020d0c0b0a d0 00": '"start": "2024-02-13T12:11:10", "time_zone": -48, "dst": 0, "utc_offset_min": -720',
    "2AAA 00000000000000 80 ff": '"start": "0000-00-00T00:00:00", "time_zone": -128, "dst": 255,'
    ' "utc_offset_min": null',
    "2AAB 5001": '"run_time_h": 336',
    "2AAC 03 05": '"op": 3, "interval_min": 5',
    "2AAC 05 ffff": '"op": 5, "record": 65535',
    "2AAC 06 6400 1e00 15 3c00 0700 02": '"op": 6, "cal_mg_dl": 100, "cal_time_min": 30, "type": 5, "location": 1,'
    ' "next_cal_min": 60, "record": 7, "cal_status": 2',
    "2AAC 07 fa00": '"op": 7, "patient_high": 250',
    "2AAC 0c 4600": '"op": 12, "patient_low": 70',
    "2AAC 0d 3700": '"op": 13, "hypo": 55',
    "2AAC 12 fe07": '"op": 18, "hyper": null, "hyper_special": "+INF"',
    "2AAC 13 14f0": '"op": 19, "rate_dec": 2.0',
    "2AAC 18 14f0": '"op": 24, "rate_inc": 2.0',
    "2AAC 1a": '"op": 26',
    "2AAC 1c 04 03": '"op": 28, "request": 4, "code": 3',
    # Oximetry: flags of one measurement are not those of the other.
    "2A5F 00 6200 4800": '"spo2_pct": 98, "pr_bpm": 72',
    "2A5F 1f d3f3 4800 ff07 0008 6200 4700 a001 010000 0ff0": '"spo2_pct": 97.9, "pr_bpm": 72, "spo2_fast": null,'
    ' "spo2_fast_special": "NaN", "pr_fast": null, "pr_fast_special": "NRes", "spo2_slow": 98, "pr_slow": 71,'
    ' "measurement_status": 416, "device_status": 1, "pai_pct": 1.5',
    "2A5E 10 6200 4800": '"spo2_pct": 98, "pr_bpm": 72, "clock_not_set": true',
    "2A5E 0f 6200 4800 e807021d0c0b0a 2000 000080 0ff0": '"spo2_pct": 98, "pr_bpm": 72,'
    ' "timestamp": "2024-02-29T12:11:10", "measurement_status": 32, "device_status": 8388608, "pai_pct": 1.5,'
    ' "clock_not_set": false',
    "2A60 0300 e0ff ffff00": '"measurement_status_support": 65504, "device_status_support": 65535, "features": 3',
    "2A60 fc00": '"features": 252',
    # Heart rate: 8 and 16 bits, contact only if the sensor can tell, intervals to the end.
    "2A37 00 48": '"hr_bpm": 72',
    "2A37 1d 2c01 e803 0004 0104": '"hr_bpm": 300, "contact": false, "energy_kj": 1000, "rr_raw": [1024, 1025]',
    "2A37 e6 48": '"hr_bpm": 72, "contact": true, "rfu_flags": 224',
    "2A38 07": '"value": 7',
    # Thermometer, cuff, scale, battery, clocks.
    "2A1C 06 4c0e00fe e807020d0c0b0a 09": '"unit": "C", "temperature": 36.60, "timestamp": "2024-02-13T12:11:10",'
    ' "type": 9',
    "2A1C 01 da0300ff": '"unit": "F", "temperature": 98.6',
    "2A1E 00 00008000": '"unit": "C", "temperature": null, "temperature_special": "NRes"',
    "2A1D 00": '"value": 0',
    "2A35 1e 7800 5000 ff07 e807020d0c0b0a 4800 ff 0400": '"unit": "mmHg", "systolic": 120, "diastolic": 80,'
    ' "map": null, "map_special": "NaN", "timestamp": "2024-02-13T12:11:10", "pulse_bpm": 72, "user_id": 255,'
    ' "status": 4',
    "2A35 01 a0f0 6bf0 7cf0": '"unit": "kPa", "systolic": 16.0, "diastolic": 10.7, "map": 12.4',
    "2A9D 08 c036 e600 d606": '"unit": "kg", "weight": 70.080, "bmi": 23.0, "height": 1.750',
    "2A9D 09 6e3c e600 b102": '"unit": "lb", "weight": 154.70, "bmi": 23.0, "height": 68.9',
    "2A9D 00 ffff": '"unit": "kg", "weight": null, "weight_special": "NaN"',
    "2A19 64": '"level_pct": 100',
    "2A08 e8070000000000": '"datetime": "2024-00-00T00:00:00"',
    "2A2B e807020d0c0b0a 02 80 f1": '"datetime": "2024-02-13T12:11:10", "dow": 2, "frac256": 128, "adjust": 241',
    "2A0F 04 ff": '"time_zone": 4, "dst": 255, "utc_offset_min": null',
    "2A14 09 fe ff ff": '"source": 9, "accuracy": 254, "days": 255, "hours": 255',
    # Who made it.
    "2A29 41636d65 00 00": '"text": "Acme"',
    "2A23 0102030405060708": '"system_id": "08-07-06-05-04-03-02-01"',
    "2A50 01 5f00 3412 0201": '"source": 1, "vendor": 95, "product": 4660, "version": 258',
    # Bare numbers.
    "SFLOAT 68b0": '"value": 0.00104',
    "SFLOAT fd77": '"value": 20450000000',
    "SFLOAT 0388": '"value": -0.00002045',
    "SFLOAT ff17": '"value": null, "value_special": "NaN"',
    "FLOAT 030080 02": '"value": -838860500',
    "FLOAT 010080 02": '"value": null, "value_special": "RFU"',
    "FLOAT 010080 00": '"value": null, "value_special": "RFU"',
    "FLOAT 020080 00": '"value": null, "value_special": "-INF"',
}

REFUSED = [
    *("2A18 -", "2A18 00 0100 e807020d0c0b", "2A18 00 0100 e807020d0c0b0a 00", "2A18 10 0100 e807020d0c0b0a ff07"),
    *("2A18 00 0100 e807020d180b0a", "2A18 00 0100 e8070d0d0c0b0a", "2A18 00 0100 e7071d0d0c0b0a"),
    *("2A18 00 0100 e707021d0c0b0a", "2A18 00 0100 e807041f0c0b0a", "2A18 00 0100 e807020d0c0b3c"),
    *("2A18 00 0100 2d06020d0c0b0a", "2A18 00 0100 1027020d0c0b0a", "2A18 e0 0100 e807020d0c0b0a 00"),
    *("2A34 -", "2A34 80 0100", "2A34 01 0100 01", "2A34 00 0100 00", "2A51 -", "2A51 00", "2A51 000000"),
    *("2A52 -", "2A52 01", "2A52 0001", "2A52 0901", "2A52 0107", "2A52 0100", "2A52 010100", "2A52 0103"),
    *("2A52 010301", "2A52 01030105", "2A52 0104010500", "2A52 0301", "2A52 030000", "2A52 050005"),
    *("2A52 0501 0500", "2A52 0600 01", "2A52 0600 010100", "2A52 010302 e8070d0d0c0b0a"),
    *("2AA7 -", "2AA7 00", "2AA7 000000000000", "2AA7 05 00 7800 05", "2AA7 06 00 7800 05", "2AA7 06 01 7800 0500"),
    *("2AA7 07 00 7800 0500 00", "2AA7 06 00 7800 0500 00", "2AA7 08 00 7800 0500 0000", "2AA7 ff 00 7800 0500"),
    *("2AA7 0800 7800 0500 0de8 0600 7900 0600", "2AA7 0600 7800 0500 0800 7900 0600 0000"),
    *("2AA7 0600 7800 0500 0600 7900 06", "2AA7 0600 7800 0500 0000", "2AA8 00a000 59", "2AA8 00a000 59 ffff 00"),
    *("2AA8 001000 59 ffff", "2AA9 0500 01 02", "2AA9 0500 01 02 03 00", "2AA9 0500 01 02 03 0000"),
    *("2AAA e807020d0c0b0a 04", "2AAA e807020d0c0b0a 39 04", "2AAA e807020d0c0b0a cf 04", "2AAA e807020d0c0b0a 04 01"),
    *("2AAB 50", "2AAB 500100", "2AAC -", "2AAC 00", "2AAC 1d", "2AAC 01", "2AAC 02 00", "2AAC 07 fa", "2AAC 1c 04"),
    *("2A5F 00 6200 48", "2A5F 00 6200 4800 00", "2A5F 01 6200 4800 6200", "2A5E 01 6200 4800", "2A60 0100", "2A60 00"),
    *("2A5E 01 6200 4800 e807021e0c0b0a", "2A37 -", "2A37 00", "2A37 01 48", "2A37 10 48", "2A37 10 48 00 04 01"),
    *("2A37 00 48 00", "2A38 -", "2A38 0101", "2A1C 00 4c0e00", "2A1C 02 4c0e00fe", "2A1D -", "2A35 00 7800 5000"),
    *("2A35 10 7800 5000 5d00 00", "2A9D 00 c0", "2A9D 08 c036 e600", "2A19 65", "2A19 -", "2A19 6464"),
    *("2A08 e807020d0c0b", "2A08 e807020d0c3c0a", "2A2B e807020d0c0b0a 08 00 00", "2A2B e807020d0c0b0a 01 00"),
    *("2A0F 04", "2A0F 39 00", "2A14 00 00 00", "2A23 00", "2A50 01 5f00 3412 02", "2A29 ff"),
    *("SFLOAT -", "SFLOAT 00", "SFLOAT 000000", "FLOAT 000000", "FLOAT 0000000000", "DOUBLE 00", "2AFF 00", "2A18 0"),
]


CRC = {
    "2AA7 0600 7800 0500": (False, True),
    "2AA7 0800 7800 0500 0de8": (True, False),
    "2AA7 0800 7800 0500 0de8 0600 7900 0600": (False, False),
    "2AA7 0800 7800 0500 0de9": (False, False),
    "2AA8 001000 59 f049": (True, True),
    "2AA8 001000 59 ffff": (False, False),
    "2AA8 000000 59 ffff": (True, True),
    "2AA9 0500 01 02 03": (False, True),
    "2AA9 0500 01 02 03 2b4d": (True, False),
    "2AAA e807020d0c0b0a 04 04": (False, True),
    "2AAA e807020d0c0b0a 04 04 2e9f": (True, False),
    "2AAB 5001": (False, True),
    "2AAB 5001 c632": (True, False),
    "2AAC 03 05": (False, True),
    "2AAC 03 05 7d8d": (True, False),
    "2A52 0101": (True, True),
}
"""Whether a value is one if CRCs are promised, and if there are none."""


@pytest.mark.parametrize("line", CRC)
def test_a_crc_is_there_if_it_is_promised_and_only_then(line: str) -> None:
    answers = [decode_line(line, e2e_crc=promised) for promised in (True, False)]
    assert tuple(answer.startswith('{"ok": true') for answer in answers) == CRC[line]


@pytest.mark.parametrize("line", TOLD)
def test_a_value_is_told_to_the_last_digit(line: str) -> None:
    assert decode_line(line) == '{"ok": true, "fields": {' + TOLD[line] + "}}"


@pytest.mark.parametrize("line", REFUSED)
def test_a_value_that_breaks_its_specification_is_refused(line: str) -> None:
    assert decode_line(line).startswith('{"ok": false, "error": "'), line
