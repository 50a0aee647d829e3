//! How messages travel, without any IO: bytes in, bytes out.

mod http_body;
pub mod websocket;
