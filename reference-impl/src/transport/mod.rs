//! How messages travel, without any IO: bytes in, bytes out.

pub mod websocket;
