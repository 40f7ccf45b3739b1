"""Every metric: its codes, its unit, and what values it may plausibly have.

The key is the IEEE 11073-10101 (MDC) code, partition * 65,536 + term. Where that nomenclature has no code, or none that
could be confirmed, the key is in its private partition, 1024. Limits are engineering limits, not diagnoses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import isinf
from typing import Final

from gateway.errors import ConfigError

PRIVATE: Final = 1024 << 16

GLUCOSE: Final = 160212
"""Interstitial fluid, from a continuous monitor."""
GLUCOSE_GENERIC: Final = 160020
GLUCOSE_CAPILLARY: Final = 160184
GLUCOSE_CAPILLARY_PLASMA: Final = 160188
GLUCOSE_VENOUS: Final = 160192
GLUCOSE_VENOUS_PLASMA: Final = 160196
GLUCOSE_ARTERIAL: Final = 160200
GLUCOSE_ARTERIAL_PLASMA: Final = 160204
GLUCOSE_CONTROL: Final = 160208
GLUCOSE_BLOOD: Final = 160364
GLUCOSE_PLASMA: Final = 160368
GLUCOSE_TREND: Final = PRIVATE + 1
GLUCOSE_QUALITY: Final = PRIVATE + 2
HBA1C: Final = 160220
MEAL: Final = 8417864
TESTER: Final = 8417884
HEALTH: Final = 8417820
CARBOHYDRATE: Final = 8417764
EXERCISE_INTENSITY: Final = 8417760
EXERCISE_DURATION: Final = PRIVATE + 3
MEDICATION_MASS: Final = 8417796
MEDICATION_VOLUME: Final = PRIVATE + 4
SPO2: Final = 150456
SPO2_FAST: Final = PRIVATE + 5
SPO2_SLOW: Final = PRIVATE + 6
PULSE_RATE: Final = 149530
PULSE_RATE_FAST: Final = PRIVATE + 7
PULSE_RATE_SLOW: Final = PRIVATE + 8
PULSE_AMPLITUDE: Final = 150448
HEART_RATE: Final = 147842
RR_INTERVAL: Final = PRIVATE + 9
ENERGY_EXPENDED: Final = PRIVATE + 10
TEMPERATURE: Final = 150364
TEMPERATURE_AXILLA: Final = 188452
TEMPERATURE_EAR: Final = 188428
TEMPERATURE_FINGER: Final = 188432
TEMPERATURE_GASTRIC: Final = 188456
TEMPERATURE_ORAL: Final = 188424
TEMPERATURE_RECTAL: Final = 188420
TEMPERATURE_TOE: Final = 188448
TEMPERATURE_TYMPANIC: Final = 150392
SYSTOLIC: Final = 150021
DIASTOLIC: Final = 150022
MEAN_ARTERIAL: Final = 150023
CUFF_PRESSURE: Final = PRIVATE + 11
BLOOD_PRESSURE_PULSE: Final = 149546
WEIGHT: Final = 188736
HEIGHT: Final = 188740
BMI: Final = 188752
BODY_FAT: Final = 188748
FAT_FREE_MASS: Final = 188756
SOFT_LEAN_MASS: Final = 188760
BODY_WATER: Final = 188764
MUSCLE_PERCENTAGE: Final = PRIVATE + 12
MUSCLE_MASS: Final = PRIVATE + 13
BASAL_METABOLISM: Final = PRIVATE + 14
IMPEDANCE: Final = PRIVATE + 15
BATTERY: Final = PRIVATE + 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What a value may be; every bound is itself still allowed, None is no bound."""

    reject_below: float | None = None
    """Further down nobody lives and no device measures: decoding or the device is wrong."""
    reject_above: float | None = None
    flag_below: float | None = None
    """Further down a value is possible, and doubtful."""
    flag_above: float | None = None
    rate_per_min: float | None = None
    """The fastest plausible change."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is known of a metric."""

    code: int
    name: str
    """For people and as a label of counters."""
    unit: str
    """UCUM; the one unit in which the metric's values travel."""
    loinc: str | None = None
    limits: Limits = Limits()
    unit_factors: tuple[float, ...] = ()
    """By what a value is off if its unit was mistaken."""


_MMOL = 18.0156
"""mg/dL per mmol/L of glucose, molar mass 180.156."""
_GLUCOSE_FACTORS = (_MMOL, 1_000.0, 100_000.0)
_METER = Limits(1, 1500, 20, 600)
_SATURATION = Limits(0, 100, 70, None, 30)
_RATE = Limits(1, 350, 25, 250, 120)
_BODY = Limits(10, 50, 32, 43)
_KILO = (1_000.0,)


def _glucose(code: int, name: str, loinc: str | None = None) -> Metric:
    return Metric(code, name, "mg/dL", loinc, _METER, _GLUCOSE_FACTORS)


def _temperature(code: int, name: str) -> Metric:
    return Metric(code, name, "Cel", "8310-5", _BODY, _KILO)


_ALL = (
    Metric(GLUCOSE, "glucose", "mg/dL", "99504-3", Limits(1, 1000, 40, 400, 10), _GLUCOSE_FACTORS),
    _glucose(GLUCOSE_GENERIC, "glucose unspecified", "2339-0"),
    _glucose(GLUCOSE_CAPILLARY, "capillary glucose", "41653-7"),
    _glucose(GLUCOSE_CAPILLARY_PLASMA, "capillary plasma glucose"),
    _glucose(GLUCOSE_VENOUS, "venous glucose", "2339-0"),
    _glucose(GLUCOSE_VENOUS_PLASMA, "venous plasma glucose", "2345-7"),
    _glucose(GLUCOSE_ARTERIAL, "arterial glucose"),
    _glucose(GLUCOSE_ARTERIAL_PLASMA, "arterial plasma glucose"),
    _glucose(GLUCOSE_CONTROL, "control solution glucose"),
    _glucose(GLUCOSE_BLOOD, "blood glucose", "2339-0"),
    _glucose(GLUCOSE_PLASMA, "plasma glucose", "2345-7"),
    Metric(GLUCOSE_TREND, "glucose trend", "mg/dL/min", None, Limits(-20, 20, -8, 8), _GLUCOSE_FACTORS),
    Metric(GLUCOSE_QUALITY, "glucose quality", "%", None, Limits(0, 100)),
    Metric(HBA1C, "hba1c", "%", "4548-4", Limits(0, 100, 3, 20)),
    Metric(MEAL, "meal", "{code}"),
    Metric(TESTER, "tester", "{code}"),
    Metric(HEALTH, "health", "{code}"),
    Metric(CARBOHYDRATE, "carbohydrate", "g", None, Limits(0, 5000, None, 500)),
    Metric(EXERCISE_INTENSITY, "exercise intensity", "%", None, Limits(0, 100)),
    Metric(EXERCISE_DURATION, "exercise duration", "s", None, Limits(0, 65535)),
    Metric(MEDICATION_MASS, "medication mass", "mg", None, Limits(0)),
    Metric(MEDICATION_VOLUME, "medication volume", "mL", None, Limits(0)),
    Metric(SPO2, "spo2", "%", "59408-5", _SATURATION, _KILO),
    Metric(SPO2_FAST, "spo2 fast", "%", None, _SATURATION, _KILO),
    Metric(SPO2_SLOW, "spo2 slow", "%", None, _SATURATION, _KILO),
    Metric(PULSE_RATE, "pulse rate", "/min", "8867-4", _RATE, _KILO),
    Metric(PULSE_RATE_FAST, "pulse rate fast", "/min", None, _RATE, _KILO),
    Metric(PULSE_RATE_SLOW, "pulse rate slow", "/min", None, _RATE, _KILO),
    Metric(PULSE_AMPLITUDE, "pulse amplitude", "%", "61006-3", Limits(0, 100)),
    Metric(HEART_RATE, "heart rate", "/min", "8867-4", _RATE, _KILO),
    Metric(RR_INTERVAL, "rr interval", "ms", None, Limits(1, 65000, 200, 3000)),
    Metric(ENERGY_EXPENDED, "energy expended", "kJ", None, Limits(0, 65535)),
    _temperature(TEMPERATURE, "temperature"),
    _temperature(TEMPERATURE_AXILLA, "axillary temperature"),
    _temperature(TEMPERATURE_EAR, "ear temperature"),
    _temperature(TEMPERATURE_FINGER, "finger temperature"),
    _temperature(TEMPERATURE_GASTRIC, "gastrointestinal temperature"),
    _temperature(TEMPERATURE_ORAL, "oral temperature"),
    _temperature(TEMPERATURE_RECTAL, "rectal temperature"),
    _temperature(TEMPERATURE_TOE, "toe temperature"),
    _temperature(TEMPERATURE_TYMPANIC, "tympanic temperature"),
    Metric(SYSTOLIC, "systolic pressure", "mm[Hg]", "8480-6", Limits(1, 350, 50, 260), _KILO),
    Metric(DIASTOLIC, "diastolic pressure", "mm[Hg]", "8462-4", Limits(1, 300, 30, 160), _KILO),
    Metric(MEAN_ARTERIAL, "mean arterial pressure", "mm[Hg]", "8478-0", Limits(1, 350, 30, 200), _KILO),
    Metric(CUFF_PRESSURE, "cuff pressure", "mm[Hg]", None, Limits(0, 350), _KILO),
    Metric(BLOOD_PRESSURE_PULSE, "blood pressure pulse", "/min", "8867-4", _RATE, _KILO),
    Metric(WEIGHT, "weight", "kg", "29463-7", Limits(0, 650, 2), _KILO),
    Metric(HEIGHT, "height", "cm", "8302-2", Limits(0, 300, 30, 230), _KILO),
    Metric(BMI, "bmi", "kg/m2", "39156-5", Limits(0, 250, 8, 100), _KILO),
    Metric(BODY_FAT, "body fat", "%", "41982-0", Limits(0, 100, 2, 75)),
    Metric(FAT_FREE_MASS, "fat-free mass", "kg", None, Limits(0, 650), _KILO),
    Metric(SOFT_LEAN_MASS, "soft lean mass", "kg", None, Limits(0, 650), _KILO),
    Metric(BODY_WATER, "body water", "kg", None, Limits(0, 650), _KILO),
    Metric(MUSCLE_PERCENTAGE, "muscle percentage", "%", None, Limits(0, 100)),
    Metric(MUSCLE_MASS, "muscle mass", "kg", None, Limits(0, 650), _KILO),
    Metric(BASAL_METABOLISM, "basal metabolism", "kJ", None, Limits(0, 65535)),
    Metric(IMPEDANCE, "impedance", "Ohm", None, Limits(0, 6554)),
    Metric(BATTERY, "battery", "%", None, Limits(0, 100)),
)

METRICS: Final[dict[int, Metric]] = {metric.code: metric for metric in _ALL}
_BY_NAME: Final = {metric.name: metric for metric in _ALL}


def limits_by_code(told: Mapping[str, Mapping[str, float]]) -> dict[int, Limits]:
    """Limits by metric code, from bounds by metric name: those named replace the table's, the others stay.

    Infinity is no bound. Raises `ConfigError` that names an unknown metric, or bounds that exclude each other.
    """
    found = {}
    for name, bounds in told.items():
        metric = _BY_NAME.get(name)
        if metric is None:
            near = get_close_matches(name, _BY_NAME, n=3) or sorted(_BY_NAME)
            raise ConfigError(f"quality.limits.{name!r}: there is no such metric; there is {', '.join(near)}")
        limits = replace(metric.limits, **{key: None if isinf(bound) else bound for key, bound in bounds.items()})
        order = [limits.reject_below, limits.flag_below, limits.flag_above, limits.reject_above]
        stated = [bound for bound in order if bound is not None]
        if stated != sorted(stated):
            raise ConfigError(
                f"quality.limits.{name!r}: not in this order: reject_below <= flag_below <= flag_above <= reject_above"
            )
        found[metric.code] = limits
    return found
