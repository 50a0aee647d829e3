//! Steps that wait for nothing to come.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use flowproof_reference::machine::Time;

use super::expect::{self, fail};
use super::link::Arrival;
use super::steps::Scope;
use super::task::wait_for;
use super::{Shared, Stop};
use crate::flow::ast::{Name, Step};

impl Shared {
    /// The links on which participants hear: the latest connection of each, or all that comes to its sockets.
    pub(super) fn links_of(&self, listeners: &[usize]) -> Vec<usize> {
        if !self.plan.datagrams {
            return listeners.iter().flat_map(|one| self.links_to(*one)).collect();
        }
        let hears = |played: usize| {
            let owner = self.cast[played].socket_of;
            listeners.contains(&played) || owner.is_some_and(|owner| listeners.contains(&owner))
        };
        (0..self.links.len())
            .filter(|link| hears(self.links[*link].played) && !self.links[*link].stray)
            .collect()
    }

    pub(super) fn transport(&self) -> &crate::corpus::Transport {
        self.protocol.settings.transport(&self.plan.settings.edition)
    }

    /// The first message of a link that nobody has to expect to be silent about.
    pub(super) fn disturbance(&self, link: usize) -> Option<usize> {
        self.links[link].inbox.iter().position(|arrived| {
            matches!(arrived.what, Arrival::Text { .. } | Arrival::Binary(_))
                && !arrived.judged
                && !self.is_background(&arrived.what)
        })
    }

    pub(super) fn settled_at(&self) -> Time {
        self.last_cause + self.protocol.settings.timing.settle + self.plan.settings.slack
    }
}

pub(super) async fn quiet(
    shared: &Rc<RefCell<Shared>>,
    scope: &Scope,
    step: &Step,
    who: &[Name],
    duration: Option<Duration>,
) -> Result<(), Stop> {
    let mut listeners = Vec::new();
    for name in who {
        listeners.extend(scope.members(name)?);
    }
    let until = match duration {
        Some(duration) => shared.borrow().now + duration,
        None => shared.borrow().settled_at(),
    };
    loop {
        let disturbed = wait_for(shared, Some(until), |shared| {
            let links = shared.links_of(&listeners);
            links.into_iter().find_map(|link| shared.disturbance(link).map(|place| (link, place)))
        })
        .await;
        let shared = &mut *shared.borrow_mut();
        let Some((link, place)) = disturbed else {
            shared.keep(scope, step);
            return Ok(());
        };
        let arrived = shared.links[link].inbox[place].what.clone();
        if shared.take_allowed(link, &arrived) {
            shared.links[link].inbox.remove(place);
            continue;
        }
        let accused = scope.accused(step);
        if accused.is_empty() && shared.plan.unexpected.is_some() {
            expect::unexpected(shared, scope, link, place, step);
            continue;
        }
        let name = shared.cast[shared.links[link].played].name.clone();
        let message = format!("{name} received a message where there should be silence");
        let expected = format!("nothing for {name}");
        return Err(fail(shared, scope, step, accused, message, expected, arrived.value()));
    }
}

pub(super) async fn settle(shared: &Rc<RefCell<Shared>>) -> Result<(), Stop> {
    let until = shared.borrow().settled_at();
    wait_for(shared, Some(until), |_| None::<()>).await;
    let shared = &mut *shared.borrow_mut();
    for link in 0..shared.links.len() {
        let inbox = std::mem::take(&mut shared.links[link].inbox);
        let kept = inbox.into_iter().filter(|arrived| !shared.is_background(&arrived.what)).collect();
        shared.links[link].inbox = kept;
    }
    Ok(())
}
