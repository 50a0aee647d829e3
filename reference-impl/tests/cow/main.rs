//! cow: relay and peers against puppets and against each other, in memory and in virtual time.

mod convergence;
mod herd;
mod peer;
mod relay;
mod story;
