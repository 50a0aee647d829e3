//! The fuzzer: conversations that follow the flows of a protocol to deep states and leave the path there.
//!
//! A [`case::Case`] is a flow, as a tree. [`depart`] makes a plain sequence of one, [`mutate`] changes it, and the runner
//! plays it like any other flow, in memory or over the network; so a finding is a flow file that `flowproof test --flow`
//! plays again, and every judge speaks as it does in a test. A changed flow has the tag `astray`: what its arrows expect
//! cannot be trusted any more and only binds names; monitors, message catalogue and bystanders (`served`) still accuse.
//! Flows are also run as they are written, where all judges hold.
//!
//! What is found has an [`identity::Identity`], is shown again alone, compared with what the built-in reference does in the
//! same conversation, made small ([`minimise`]) and written down ([`written`]). [`campaign`] does all of that side by side.

pub mod campaign;
pub mod case;
pub mod depart;
pub mod identity;
pub mod kind;
pub mod minimise;
pub mod mutate;
pub mod play;
pub mod pool;
pub mod seeds;
mod tree;
pub mod written;
