//! Messages that wait for their ACK (section 3.5), and those that came in already.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

use super::guid::Guid;
use crate::machine::{SocketId, Time};

/// Messages that are remembered, so that a second copy is acted on once.
const REMEMBERED: usize = 4096;

/// One copy of a message on its way to one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) msg_id: Guid,
    pub(super) socket: SocketId,
    pub(super) to: SocketAddrV4,
    pub(super) bytes: Vec<u8>,
    again: Time,
    left: u32,
}

/// All copies on their way.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    waiting: Vec<Delivery>,
}

/// What became of a delivery whose time has come.
pub(super) enum Overdue {
    /// It is to be sent again.
    Again(Delivery),
    /// It has been sent often enough.
    Failed(Delivery),
}

impl Deliveries {
    pub(super) fn push(
        &mut self,
        now: Time,
        msg_id: Guid,
        (socket, to): (SocketId, SocketAddrV4),
        bytes: Vec<u8>,
        (wait, retries): (Duration, u32),
    ) {
        self.waiting.push(Delivery { msg_id, socket, to, bytes, again: now + wait, left: retries });
    }

    /// The copy that an ACK from `from` is about. Whoever moved in between may answer from elsewhere.
    pub(super) fn acknowledge(&mut self, msg_id: Guid, from: SocketAddrV4) -> Option<Delivery> {
        let exact = self.waiting.iter().position(|copy| copy.msg_id == msg_id && copy.to == from);
        let place = exact.or_else(|| {
            let mut same = self.waiting.iter().enumerate().filter(|(_, copy)| copy.msg_id == msg_id);
            let (place, _) = same.next()?;
            same.next().is_none().then_some(place)
        })?;
        Some(self.waiting.remove(place))
    }

    pub(super) fn overdue(&mut self, now: Time, wait: Duration) -> Vec<Overdue> {
        let mut all = Vec::new();
        self.waiting.retain_mut(|copy| {
            if copy.again > now {
                return true;
            }
            if copy.left == 0 {
                all.push(Overdue::Failed(copy.clone()));
                return false;
            }
            copy.left -= 1;
            copy.again = now + wait;
            all.push(Overdue::Again(copy.clone()));
            true
        });
        all
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.iter().map(|copy| copy.again).min()
    }
}

/// The ids of what came in lately.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    order: VecDeque<Guid>,
    known: BTreeSet<Guid>,
}

impl Remembered {
    /// True when the id is new.
    pub(super) fn insert(&mut self, id: Guid) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
