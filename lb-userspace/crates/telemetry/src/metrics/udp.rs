//! The metrics of UDP.

use super::{
    collect::datagrams,
    row::{Metric, Section},
};

const SERVICE: &[&str] = &["service"];

/// Their part of the table. Services without UDP have no samples of them.
pub(super) const SECTION: Section = Section {
    mark: "udp",
    rows: &[
        Metric::counter(
            "hotlb_datagrams_steered",
            SERVICE,
            "Runs of the steering program for UDP, one a train of datagrams where the kernel joins them (GRO)",
            datagrams::calls,
        ),
        Metric::counter(
            "hotlb_datagrams_exits",
            &["service", "exit"],
            "How they ended; the sum over all exits equals the runs",
            datagrams::exits,
        ),
        Metric::gauge(
            "hotlb_flows",
            &["service", "generation"],
            "Flows of UDP clients that are with this generation and not idle",
            datagrams::flows,
        ),
        Metric::gauge(
            "hotlb_flow_table_size",
            SERVICE,
            "Capacity of the flow table",
            datagrams::table,
        ),
        Metric::counter(
            "hotlb_flows_begun",
            SERVICE,
            "Flows that began",
            datagrams::begun,
        ),
        Metric::counter(
            "hotlb_flows_moved",
            SERVICE,
            "Flows that went to another generation before they were idle: theirs ended, or its drain's deadline was over",
            datagrams::moved,
        ),
        Metric::counter(
            "hotlb_flows_readdressed",
            SERVICE,
            "QUIC connections that stayed with their generation when the client's address changed",
            datagrams::readdressed,
        ),
        Metric::counter(
            "hotlb_flows_evicted",
            SERVICE,
            "Flows that were evicted, or could not be recorded: the table is too small",
            datagrams::evicted,
        ),
    ],
};
