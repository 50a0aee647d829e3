//! Conversations in datagrams: there are sockets instead of connections. A link stands for the pair of one of our
//! sockets and one address of the party under test; its further addresses are learnt from what it says and sends.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use flowproof_reference::machine::{LinkId, Time};
use flowproof_reference::transport::LinkEnd;
use flowproof_reference::transport::datagrams::DatagramEnd;
use serde_json::Value;

use super::expect::{Expect, Scan};
use super::link::{Link, Stage};
use super::{Output, Shared};
use crate::monitor::What;
use crate::pattern::{Bindings, Bound, fresh_uuid, generate};

/// Somebody played who greets again and again.
pub(super) struct Greeter {
    from: usize,
    to: usize,
    next: Time,
}

impl Shared {
    /// The variables that tell the address of a participant.
    pub(super) fn bind_address(name: &str, address: SocketAddr, bindings: &mut Bindings) {
        let mut bind =
            |part: &str, value: String| bindings.bind(&format!("{name}.{part}"), Bound::Value(value.into()));
        bind("ip", address.ip().to_string());
        bind("port", address.port().to_string());
        bind("address", address.to_string());
    }

    /// What is known before the first step: the addresses of those we play, and an id for each of them.
    pub(super) fn introduce(&mut self, bindings: &mut Bindings) {
        let crowds: BTreeSet<usize> =
            self.plan.names.values().filter(|places| places.len() > 1).flatten().copied().collect();
        for one in 0..self.cast.len() {
            // Nobody asks for the address of one of a crowd, and every match would carry the variables of all.
            if crowds.contains(&one) {
                let id = fresh_uuid(&mut self.rng);
                self.ids.insert(one, id.into());
                continue;
            }
            if let Some(address) = self.addresses.get(one).copied().flatten() {
                Self::bind_address(&self.cast[one].name, address, bindings);
            }
            if !self.cast[one].under_test && self.cast[one].socket_of.is_none() {
                let id = fresh_uuid(&mut self.rng);
                bindings.bind(&format!("{}.id", self.cast[one].name), Bound::Value(id.into()));
            }
        }
    }

    /// The link between a socket of ours and one of the party under test, made when it is needed.
    pub(super) fn datagram_link(&mut self, played: usize, watched: usize) -> usize {
        let ends = |link: &Link| (link.played, link.watched, link.stray) == (played, watched, false);
        if let Some(known) = self.links.iter().position(ends) {
            return known;
        }
        let remote = self.addresses.get(watched).copied().flatten();
        self.new_datagram_link(played, watched, remote, false)
    }

    fn new_datagram_link(
        &mut self,
        played: usize,
        watched: usize,
        remote: Option<SocketAddr>,
        stray: bool,
    ) -> usize {
        let index = self.links.len();
        self.links.push(Link {
            end: LinkEnd::Datagrams(DatagramEnd::default()),
            stage: Stage::Open,
            remote,
            stray,
            ..Link::new(LinkId(index as u64), played, watched)
        });
        index
    }

    /// A datagram arrived at one of our sockets.
    pub(super) fn datagram(&mut self, socket: usize, from: SocketAddr, bytes: &[u8]) {
        let Some(target) = self.cast.iter().position(|one| one.under_test && one.socket_of.is_none()) else {
            return;
        };
        let ordinary = self.addresses.get(target).copied().flatten();
        // Whoever else sends to us takes no part.
        if ordinary.is_some_and(|known| known.ip() != from.ip()) {
            return;
        }
        if ordinary.is_none() && self.cast[socket].socket_of.is_none() {
            self.learn_address(target, from);
        }
        self.learn_from_bindings();
        let known = self
            .cast
            .iter()
            .zip(&self.addresses)
            .position(|(one, known)| one.under_test && *known == Some(from));
        let index = match known {
            Some(watched) => self.datagram_link(socket, watched),
            None => {
                let stray = self
                    .links
                    .iter()
                    .position(|link| link.stray && link.played == socket && link.remote == Some(from));
                stray.unwrap_or_else(|| self.new_datagram_link(socket, target, Some(from), true))
            }
        };
        self.links[index].end.receive(bytes);
        self.drain(index);
    }

    /// An address of the party under test is known from now on.
    fn learn_address(&mut self, watched: usize, address: SocketAddr) {
        self.addresses[watched] = Some(address);
        let bindings = Rc::clone(&self.ignoring_bindings);
        Self::bind_address(&self.cast[watched].name, address, &mut bindings.borrow_mut());
        for link in self.links.iter_mut().filter(|link| link.watched == watched && !link.stray) {
            link.remote = Some(address);
        }
        // What came from there before anybody knew it belongs to it.
        for stray in 0..self.links.len() {
            if self.links[stray].stray && self.links[stray].remote == Some(address) {
                let link = self.datagram_link(self.links[stray].played, watched);
                self.adopt(link, stray);
            }
        }
    }

    /// A port that the party under test named for a further socket tells where that socket is.
    fn learn_from_bindings(&mut self) {
        let Some(target) = self.cast.iter().position(|one| one.under_test && one.socket_of.is_none()) else {
            return;
        };
        let Some(ordinary) = self.addresses.get(target).copied().flatten() else { return };
        for one in 0..self.cast.len() {
            if !self.cast[one].under_test || self.addresses[one].is_some() {
                continue;
            }
            let named = {
                let bindings = self.ignoring_bindings.borrow();
                match bindings.value(&format!("{}.port", self.cast[one].name)) {
                    Some(Value::String(port)) => port.parse::<u16>().ok(),
                    Some(Value::Number(port)) => port.as_u64().and_then(|port| u16::try_from(port).ok()),
                    _ => None,
                }
            };
            if let Some(port) = named {
                self.learn_address(one, SocketAddr::new(ordinary.ip(), port));
            }
        }
    }

    /// Makes the waiting datagrams of a stray address those of `link`.
    fn adopt(&mut self, link: usize, stray: usize) {
        let waiting = std::mem::take(&mut self.links[stray].inbox);
        let deeds = std::mem::take(&mut self.links[stray].deeds);
        let (id, remote) = (self.links[stray].id, self.links[stray].remote);
        self.links[stray].stray = false;
        self.links[stray].stage = Stage::Ended;
        self.links[stray].remote = None;
        let adopted = &mut self.links[link];
        adopted.deeds += deeds;
        adopted.inbox.extend(waiting);
        adopted.id = id;
        adopted.remote = remote;
    }

    /// Before a look at the queue of a further socket whose address nobody knows yet: an address from which something
    /// came that fits is its.
    pub(super) fn find_socket(
        &mut self,
        link: usize,
        expect: &Expect,
        bindings: &Rc<RefCell<Bindings>>,
        since: Option<Time>,
    ) {
        if !self.links[link].is_datagrams() {
            return;
        }
        self.learn_from_bindings();
        let watched = self.links[link].watched;
        if self.addresses.get(watched).copied().flatten().is_some() {
            return;
        }
        let played = self.links[link].played;
        let fitting = (0..self.links.len()).find(|stray| {
            let one = &self.links[*stray];
            let fits = || matches!(self.scan(*stray, expect, &bindings.borrow(), since), Scan::Fits(..));
            one.stray && one.played == played && fits()
        });
        if let Some(address) = fitting.and_then(|stray| self.links[stray].remote) {
            self.learn_address(watched, address);
        }
    }

    /// `anna greets bob`, for a played anna.
    pub(super) fn greet_from_now(&mut self, from: usize, to: usize) {
        self.greeters.push(Greeter { from, to, next: self.now });
        self.greet_due();
    }

    /// `anna stops`: from none of her sockets.
    pub(super) fn stop_greeting(&mut self, who: usize) {
        let cast = &self.cast;
        self.greeters.retain(|greeter| greeter.from != who && cast[greeter.from].socket_of != Some(who));
    }

    /// When the next greeting is due.
    pub(super) fn next_greeting(&self) -> Option<Time> {
        self.greeters.iter().map(|greeter| greeter.next).min()
    }

    /// Sends the greetings that are due.
    pub(super) fn greet_due(&mut self) {
        if self.greeters.iter().all(|greeter| greeter.next > self.now) {
            return;
        }
        let Some(greeting) = self.protocol.greetings.get(&self.plan.settings.edition).cloned() else {
            return;
        };
        for place in 0..self.greeters.len() {
            let Greeter { from, to, next } = self.greeters[place];
            if next > self.now {
                continue;
            }
            // Where the machine stood still, what was missed is not made up for.
            let every = greeting.every.max(Duration::from_millis(10));
            self.greeters[place].next = (next + every).max(self.now + every / 2);
            // A greeting knows whose it is and nothing else; with a crowd, copies of all variables would cost its square.
            let mut bindings = Bindings::default();
            let owner = self.cast[from].socket_of.unwrap_or(from);
            let named =
                || self.ignoring_bindings.borrow().value(&format!("{}.id", self.cast[owner].name)).cloned();
            if let Some(id) = self.ids.get(&owner).cloned().or_else(named) {
                bindings.bind("me", Bound::Value(id));
            }
            let Ok(message) = generate(&greeting.message, &mut bindings, &mut self.rng) else { continue };
            let link = self.datagram_link(from, to);
            if self.links[link].remote.is_some() {
                self.send_text(link, message.to_string(), Some(message));
            }
        }
    }

    /// Closes the sockets of a played participant.
    pub(super) fn close_sockets(&mut self, who: usize) {
        self.stop_greeting(who);
        for one in 0..self.cast.len() {
            if one != who && self.cast[one].socket_of != Some(who) {
                continue;
            }
            for link in 0..self.links.len() {
                if self.links[link].played == one && self.links[link].stage == Stage::Open {
                    self.links[link].stage = Stage::Ended;
                    self.links[link].ended_by_us = true;
                    self.observe(link, false, &What::Closed);
                    self.note(link, false, "vanishes".to_owned());
                }
            }
            self.outputs.push_back(Output::Unbind(one));
        }
    }

    /// Hands datagrams that wait on a link to the network.
    pub(super) fn flush_datagrams(&mut self, index: usize) {
        while let Some(bytes) = self.links[index].end.take_datagram() {
            let link = &self.links[index];
            if let Some(to) = link.remote {
                self.outputs.push_back(Output::SendTo(link.played, to, bytes));
            }
        }
    }

    /// Addresses and ids of those who joined while the flow runs, by the name that their own flow has for them.
    pub(super) fn introduce_as(&mut self, name: &str, members: &[usize], bindings: &mut Bindings) {
        for one in members {
            let Some(address) = self.addresses.get(*one).copied().flatten() else { continue };
            Self::bind_address(name, address, bindings);
            if !self.cast[*one].under_test {
                let id = fresh_uuid(&mut self.rng);
                let known = Bound::Value(id.into());
                bindings.bind(&format!("{name}.id"), known.clone());
                // Greetings look it up by the name that the conversation has.
                self.ignoring_bindings.borrow_mut().bind(&format!("{}.id", self.cast[*one].name), known);
            }
        }
    }
}
