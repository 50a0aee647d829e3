//! Reference implementations of the protocols that flowproof knows: wire types and pure state machines of every
//! role, and thin drivers that put them on sockets.

pub mod clusterio;
pub mod cow;
pub mod driver;
pub mod hangout;
pub mod machine;
pub mod polfan;
pub mod ptpchat;
pub mod transport;
