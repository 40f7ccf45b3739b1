"""What is on the dashboards: one for gateways, one for receivers and the fleet."""

from typing import Final

from gateway.observe.dashboards import Dashboard, Panel, graph, grown, now, number, quantiles, rate, table

GATEWAY: Final = Dashboard(
    "iomt-gateway",
    "IoMT gateways",
    "gateway",
    (
        (
            "At a glance",
            (
                number("Uplink", "iomt_gateway_uplink_online", words=("offline", "online")),
                number("Bluetooth", "iomt_gateway_bluetooth_adapter_up", words=("down", "up")),
                number("Clock", "iomt_gateway_clock_known", words=("unknown", "known")),
                number("Storage", "1 - iomt_gateway_outbox_refusing", words=("refuses", "keeps")),
                number("Oldest waits for", "iomt_gateway_outbox_oldest_age_seconds", "s"),
                number("Outbox lasts without uplink", "iomt_gateway_outbox_left_seconds", "s"),
                number(
                    "TLS certificate ends in", "iomt_gateway_tls_certificate_expiry_timestamp_seconds - time()", "s"
                ),
                number(
                    "Revocation list ends in",
                    "(iomt_gateway_crl_expiry_timestamp_seconds > 0) - time()",
                    "s",
                ),
                number("Wearables unheard", "iomt_gateway_unlinked_devices"),
                number("Bundles refused for good", "iomt_gateway_uplink_parked_bundles"),
                number("Bundles lost by the card", "iomt_gateway_outbox_missing_bundles"),
                number("A new card lasts", "iomt_gateway_card_life_seconds", "s"),
            ),
        ),
        (
            "Wearables",
            (
                graph("Readings per second", rate("iomt_gateway_captured_readings_total", "profile", "quality")),
                graph("Readings per second, by metric", rate("iomt_gateway_captured_readings_total", "metric")),
                graph("Links", now("iomt_gateway_devices", "state")),
                graph(
                    "Stored records",
                    now("iomt_gateway_backfills", "state"),
                    rate("iomt_gateway_backfilled_readings_total", called="fetched per second"),
                ),
                graph(
                    "What became of wearables, links and adapter, per hour",
                    grown("iomt_gateway_device_events_total", "code"),
                ),
                graph("Errors of wearables and radio, per hour", grown("iomt_gateway_device_errors_total", "cause")),
                graph("For a person to look at, per hour", grown("iomt_gateway_security_events_total", "kind")),
                graph(
                    "Gaps: lost before they were durable, per hour; and bundles that the receiver will not get",
                    grown("iomt_gateway_lost_records_total", "cause", called="records"),
                    grown("iomt_gateway_outbox_hole_bundles_total", "cause", called="bundles"),
                ),
            ),
        ),
        (
            "Outbox and card",
            (
                graph("Waiting for a receipt", now("iomt_gateway_outbox_bundles")),
                graph("Waiting for a receipt, bytes", now("iomt_gateway_outbox_bytes"), unit="bytes"),
                graph(
                    "Sealed per second",
                    rate("iomt_gateway_sealed_records_total", called="records"),
                    rate("iomt_gateway_sealed_bundles_total", called="bundles"),
                ),
                graph("Size of a bundle", *quantiles("iomt_gateway_bundle_bytes"), unit="bytes"),
                graph("Time to seal a bundle", *quantiles("iomt_gateway_seal_seconds"), unit="s"),
                graph("Time of an fdatasync", *quantiles("iomt_gateway_outbox_fsync_seconds"), unit="s"),
                graph("Flushes refused, per hour", grown("iomt_gateway_outbox_failures_total", "cause")),
                graph(
                    "Given to the disk per second",
                    rate("iomt_gateway_card_written_bytes_total"),
                    unit="Bps",
                ),
                graph("Given to the disk per record", now("iomt_gateway_card_bytes_per_record"), unit="bytes"),
            ),
        ),
        (
            "Uplink",
            (
                graph(
                    "Bundles per second",
                    *(
                        rate(f"iomt_gateway_uplink_{each}_bundles_total", called=each)
                        for each in ("published", "acknowledged", "receipted")
                    ),
                ),
                graph("In flight", now("iomt_gateway_uplink_in_flight")),
                graph("To the broker's acknowledgement", *quantiles("iomt_gateway_uplink_puback_seconds"), unit="s"),
                graph("To the receiver's receipt", *quantiles("iomt_gateway_uplink_receipt_seconds"), unit="s"),
                graph(
                    "Connections that ended or failed, per hour", grown("iomt_gateway_uplink_reconnects_total", "cause")
                ),
                graph(
                    "Receipts and key lists not believed, per hour", grown("iomt_gateway_receipt_errors_total", "cause")
                ),
                graph("Renewals failed, per hour", grown("iomt_gateway_certificate_renewal_failures_total")),
            ),
        ),
        (
            "Clock and software",
            (
                graph("The clock may be off by", now("iomt_gateway_clock_error_seconds"), unit="s"),
                graph("The system's clock is ahead by", now("iomt_gateway_clock_offset_seconds"), unit="s"),
                graph("The clock was set by", now("iomt_gateway_clock_step_seconds"), unit="s"),
                graph("What vouches for the clock", ("iomt_gateway_clock_source == 1", "{{instance}} {{source}}")),
                table("Versions", "iomt_gateway_build_info"),
            ),
        ),
    ),
)

RECEIVER: Final = Dashboard(
    "iomt-receiver",
    "IoMT receivers and fleet",
    "receiver",
    (
        (
            "At a glance",
            (
                number("Broker", "iomt_receiver_online", words=("offline", "online")),
                number("Gateways that fell silent", "iomt_receiver_silent_chains"),
                number("Bundles that wait for their epoch", "iomt_receiver_parked_bundles"),
                number(
                    "TLS certificate ends in", "iomt_receiver_tls_certificate_expiry_timestamp_seconds - time()", "s"
                ),
                number("Revocation list ends in", "(iomt_receiver_crl_expiry_timestamp_seconds > 0) - time()", "s"),
                Panel("Alerts", (('sum by (severity) (ALERTS{alertstate="firing"})', "{{severity}}"),), kind="stat"),
            ),
        ),
        (
            "Intake",
            (
                graph("Readings stored per second", rate("iomt_receiver_stored_readings_total")),
                graph(
                    "Bundles per second",
                    *(
                        rate(f"iomt_receiver_{each}_total", called=each.replace("_", " "))
                        for each in ("messages", "stored_bundles", "redelivered_bundles", "receipts")
                    ),
                ),
                graph("Time of a commit", *quantiles("iomt_receiver_commit_seconds"), unit="s"),
                graph("Commits refused, per hour", grown("iomt_receiver_store_errors_total")),
                graph("Connections that ended or failed, per hour", grown("iomt_receiver_reconnects_total", "cause")),
                graph(
                    "Kept once or not at all, per hour",
                    grown("iomt_receiver_repeated_readings_total", called="repeated readings"),
                    grown("iomt_receiver_discarded_records_total", called="discarded records"),
                ),
            ),
        ),
        (
            "Trust",
            (
                graph("Did not verify, per hour", grown("iomt_receiver_verify_failures_total", "cause")),
                graph("In quarantine, per hour", grown("iomt_receiver_quarantined_bundles_total", "cause")),
                graph("Signers refused, per hour", grown("iomt_receiver_refused_signers_total")),
                graph("Chains with two successors, per hour", grown("iomt_receiver_forks_total")),
            ),
        ),
        (
            "Fleet",
            (
                graph(
                    "Gateways",
                    ('sum(up{job="iomt-gateway"})', "answer"),
                    ("sum(iomt_gateway_uplink_online)", "online"),
                    ("count(iomt_gateway_uplink_online)", "known"),
                ),
                graph("Wearables by link state", ("sum by (state) (iomt_gateway_devices)", "{{state}}")),
                table("Longest waiting", "topk(20, iomt_gateway_outbox_oldest_age_seconds)", "s"),
                table("Outbox full soonest", "bottomk(20, iomt_gateway_outbox_left_seconds)", "s"),
                table(
                    "Certificates that end first",
                    "bottomk(20, iomt_gateway_tls_certificate_expiry_timestamp_seconds - time())",
                    "s",
                ),
                table("Gateways by version", "count by (version) (iomt_gateway_build_info)"),
                table("Receivers' versions", "iomt_receiver_build_info"),
            ),
        ),
    ),
)

BOARDS: Final = (GATEWAY, RECEIVER)
