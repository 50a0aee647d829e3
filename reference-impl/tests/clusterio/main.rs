//! clusterio: a master, slaves and controls talking to each other through their WebSocket ends, in memory and in virtual
//! time.

mod cluster;
mod commands;
mod decoding;
mod leaving;
mod registering;
