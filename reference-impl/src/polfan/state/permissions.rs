//! Who may do what: the stored settings of all layers, the commands that read and write them, and the guards.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Outcome, World};
use crate::polfan::config::Fault;
use crate::polfan::error::{CommandError, DecodeError};
use crate::polfan::message::{Event, Id, Place};
use crate::polfan::permission::{NAMES, Permission, Setting, compute, cumulate, default_of};

/// All settings, by target and place. A list that is set replaces the one before.
#[derive(Clone, Debug, Default)]
pub(in crate::polfan) struct Rules {
    users: BTreeMap<(String, Place), Vec<Permission>>,
    roles: BTreeMap<(Id, Place), Vec<Permission>>,
}

impl Rules {
    pub(super) fn set_user(&mut self, user: &str, place: &Place, permissions: Vec<Permission>) {
        self.users.insert((user.to_owned(), place.clone()), permissions);
    }

    fn set_role(&mut self, role: &Id, place: &Place, permissions: Vec<Permission>) {
        self.roles.insert((role.clone(), place.clone()), permissions);
    }

    pub(super) fn forget(&mut self, place: &Place) {
        self.users.retain(|(_, known), _| known != place);
        self.roles.retain(|(_, known), _| known != place);
    }

    pub(super) fn forget_role(&mut self, role: &Id) {
        self.roles.retain(|(known, _), _| known != role);
    }

    fn of_user(&self, user: &str, place: &Place) -> Vec<Permission> {
        let mut list = self.users.get(&(user.to_owned(), place.clone())).cloned().unwrap_or_default();
        if *place == Place::Global {
            // The first layer has a value for every name.
            for (name, value) in NAMES {
                if !list.iter().any(|known| known.name == name) {
                    list.push(Permission::plain(name, value));
                }
            }
        }
        list
    }

    fn of_role(&self, role: &Id, place: &Place) -> Vec<Permission> {
        self.roles.get(&(role.clone(), place.clone())).cloned().unwrap_or_default()
    }
}

fn setting(list: &[Permission], name: &str) -> Option<Setting> {
    list.iter().rfind(|permission| permission.name == name).map(|permission| permission.setting)
}

/// Where a computation takes place: what is known of the ids.
#[derive(Clone, Debug, Default)]
struct Scope {
    space: Option<Id>,
    room: Option<Id>,
    topic: Option<Id>,
}

impl World {
    fn scope(&self, place: &Place) -> Scope {
        match place {
            Place::Global => Scope::default(),
            Place::Space(id) => Scope { space: Some(id.clone()), ..Scope::default() },
            Place::Room(id) => {
                let space = self.rooms.get(id).map(|room| room.space.clone());
                Scope { space, room: Some(id.clone()), topic: None }
            }
            Place::Topic(id) => {
                let room = self.topics.get(id).map(|topic| topic.room.clone());
                let outer = room.map(|room| self.scope(&Place::Room(room))).unwrap_or_default();
                Scope { topic: Some(id.clone()), ..outer }
            }
        }
    }

    /// One permission, computed over all layers that the scope knows.
    fn computed(&self, user: &str, name: &str, scope: &Scope) -> Option<bool> {
        let held: Vec<Id> = scope
            .space
            .as_ref()
            .and_then(|space| self.spaces.get(space))
            .and_then(|space| space.members.iter().find(|member| member.user == user))
            .map(|member| member.roles.clone())
            .unwrap_or_default();
        let global = self.rules.of_user(user, &Place::Global);
        let mut layers = vec![setting(&global, name).or(default_of(name))];
        if self.has(Fault::UndefinedByDefault) && default_of(name).is_some_and(|setting| !setting.value) {
            layers = vec![setting(
                &self.rules.users.get(&(user.to_owned(), Place::Global)).cloned().unwrap_or_default(),
                name,
            )];
        }
        let places = [
            scope.space.clone().map(Place::Space),
            scope.room.clone().map(Place::Room),
            scope.topic.clone().map(Place::Topic),
        ];
        for place in places.into_iter().flatten() {
            let roles = held.iter().filter_map(|role| setting(&self.rules.of_role(role, &place), name));
            let together = if self.has(Fault::OneDenialSuffices) {
                cumulate(roles.map(|setting| Setting { value: !setting.value, ..setting }))
                    .map(|setting| Setting { value: !setting.value, ..setting })
            } else {
                cumulate(roles)
            };
            layers.push(together);
            layers.push(self.user_setting(user, name, &place));
        }
        if self.has(Fault::SkipIgnored) {
            layers.iter_mut().flatten().for_each(|setting| setting.skip = false);
        }
        if self.has(Fault::EarlierLayersWin) && !layers.iter().flatten().any(|setting| setting.skip) {
            // The last layer that is defined gives way to the one before it.
            let defined: Vec<Setting> = layers.iter().copied().flatten().collect();
            return defined.iter().rev().nth(1).or(defined.last()).map(|setting| setting.value);
        }
        compute(layers)
    }

    fn user_setting(&self, user: &str, name: &str, place: &Place) -> Option<Setting> {
        let own = setting(&self.rules.of_user(user, place), name);
        if own.is_some() || !self.has(Fault::PermissionsLeak) {
            return own;
        }
        let same_kind = |other: &Place| matches!((other, place), (Place::Room(_), Place::Room(_)));
        let others = self.rules.users.iter().filter(|((known, other), _)| known == user && same_kind(other));
        others.filter_map(|(_, list)| setting(list, name)).next()
    }

    fn is_permitted(&self, user: &str, name: &str, place: &Place) -> bool {
        let scope = self.scope(place);
        let allowed = |name| self.computed(user, name, &scope).unwrap_or(false);
        if self.has(Fault::GrantsNotHeeded) {
            return default_of(name).is_some_and(|setting| setting.value) || allowed("Root");
        }
        allowed(name) || allowed("Root")
    }

    pub(super) fn must_be_permitted(
        &self,
        user: &str,
        name: &str,
        place: &Place,
    ) -> Result<(), CommandError> {
        if self.is_permitted(user, name, place) { Ok(()) } else { Err(CommandError::AccessDenied) }
    }

    fn must_exist(&self, place: &Place) -> Result<(), CommandError> {
        match place {
            Place::Global => Ok(()),
            Place::Space(id) => self.space(id).map(|_| ()),
            Place::Room(id) => self.room(id).map(|_| ()),
            Place::Topic(id) => self.topic(id).map(|_| ()),
        }
    }

    /// The role belongs to the space that the place lies in.
    fn must_own_role(&self, place: &Place, role: &Id) -> Result<(), CommandError> {
        self.must_exist(place)?;
        let space = self.scope(place).space.ok_or(CommandError::SpaceNotFound)?;
        self.must_have_role(&space, role)
    }

    pub(super) fn set_role_permissions(
        &mut self,
        by: &str,
        role: &Id,
        place: &Place,
        permissions: Vec<Permission>,
    ) -> Result<Outcome, CommandError> {
        self.must_own_role(place, role)?;
        self.must_be_permitted(by, "ManagePermission", place)?;
        self.rules.set_role(role, place, permissions);
        Ok(Outcome::answer(listed(&self.rules.of_role(role, place), None)))
    }

    pub(super) fn role_permissions(
        &self,
        by: &str,
        role: &Id,
        place: &Place,
        names: Option<Vec<String>>,
    ) -> Result<Outcome, CommandError> {
        self.must_own_role(place, role)?;
        self.must_be_permitted(by, "ManagePermission", place)?;
        Ok(Outcome::answer(listed(&self.rules.of_role(role, place), self.heard(names))))
    }

    pub(super) fn set_member_permissions(
        &mut self,
        by: &str,
        user: &str,
        place: &Place,
        permissions: Vec<Permission>,
    ) -> Result<Outcome, CommandError> {
        self.must_exist(place)?;
        self.must_be_known(user)?;
        self.must_be_permitted(by, "ManagePermission", place)?;
        self.rules.set_user(user, place, permissions);
        Ok(Outcome::answer(Event::new("Ok", json!({}))))
    }

    pub(super) fn member_permissions(
        &self,
        by: &str,
        user: &str,
        place: &Place,
        names: Option<Vec<String>>,
    ) -> Result<Outcome, CommandError> {
        self.must_exist(place)?;
        self.must_be_known(user)?;
        if by != user {
            self.must_be_permitted(by, "ManagePermission", place)?;
        }
        Ok(Outcome::answer(listed(&self.rules.of_user(user, place), self.heard(names))))
    }

    pub(super) fn computed_permissions(
        &self,
        by: &str,
        space: Option<Id>,
        room: Option<Id>,
        topic: Option<Id>,
        names: Option<Vec<String>>,
    ) -> Result<Outcome, CommandError> {
        let places = [space.map(Place::Space), room.map(Place::Room), topic.map(Place::Topic)];
        let mut scope = Scope::default();
        for place in places.into_iter().flatten() {
            self.must_exist(&place)?;
            let inner = self.scope(&place);
            let contradicts = |outer: &Option<Id>, inner: &Option<Id>| outer.is_some() && outer != inner;
            if contradicts(&scope.space, &inner.space) || contradicts(&scope.room, &inner.room) {
                return Err(DecodeError::Contradiction.into());
            }
            scope = inner;
        }
        let names = self.heard(names);
        let all = NAMES.iter().map(|(name, _)| *name);
        let wanted =
            all.filter(|name| names.as_ref().is_none_or(|names| names.iter().any(|known| known == name)));
        let computed = wanted
            .filter_map(|name| self.computed(by, name, &scope).map(|value| Permission::plain(name, value)));
        Ok(Outcome::answer(listed(&computed.collect::<Vec<_>>(), None)))
    }

    fn must_be_known(&self, user: &str) -> Result<(), CommandError> {
        if self.users.contains_key(user) { Ok(()) } else { Err(CommandError::UserNotFound) }
    }

    fn heard(&self, names: Option<Vec<String>>) -> Option<Vec<String>> {
        if self.has(Fault::NamesIgnored) { None } else { names }
    }
}

/// The `Permissions` event: all of a list, or those that were asked for.
fn listed(list: &[Permission], names: Option<Vec<String>>) -> Event {
    let wanted = list.iter().filter(|one| names.as_ref().is_none_or(|names| names.contains(&one.name)));
    let permissions: Vec<Value> = wanted.map(Permission::encode).collect();
    Event::new("Permissions", json!({ "permissions": permissions }))
}
