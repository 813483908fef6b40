//! What hotlb knows and decides, without doing anything: the configuration ([`config`]), what
//! follows in a rollout ([`rollout`]), what is an anomaly ([`incident`]), what is remembered of
//! rollouts ([`history`]) and of generations ([`provenance`]).
//!
//! It depends on `hotlb-sys` (users, places) and `hotlb-values`. Without the kernel programs, the
//! database and the collector of traces, it is what the agent and its clients have in common.

#![forbid(unsafe_code)]

pub mod config;
pub mod exec;
pub mod fault;
pub mod history;
pub mod incident;
pub mod provenance;
pub mod rollout;
pub mod trace_parent;
