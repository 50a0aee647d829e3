//! The nodes of ptpchat in virtual time, over a network that may lose, repeat, hold up and translate datagrams.

mod channels;
mod hostile;
mod net;
mod paths;
mod peers;
mod stream;
