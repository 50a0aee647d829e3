//! Roles of a space, and who holds them.

use serde_json::json;

use super::{Outcome, Role, World, role_value};
use crate::polfan::config::Fault;
use crate::polfan::error::CommandError;
use crate::polfan::message::{Event, Id, Place};

impl World {
    pub(super) fn create_role(
        &mut self,
        by: &str,
        space: &Id,
        name: String,
        color: Option<String>,
    ) -> Result<Outcome, CommandError> {
        self.space(space)?;
        self.must_be_permitted(by, "ManageRole", &Place::Space(space.clone()))?;
        let role = Role { id: self.new_id(), name, color };
        let event = Event::new("NewRole", json!({ "spaceId": space.as_str(), "role": role_value(&role) }));
        if let Some(space) = self.spaces.get_mut(space) {
            space.roles.push(role);
        }
        Ok(Outcome::change(event.clone()).telling(self.others_in_space(space, by), event))
    }

    pub(super) fn delete_role(&mut self, by: &str, role: &Id, space: &Id) -> Result<Outcome, CommandError> {
        self.must_have_role(space, role)?;
        self.must_be_permitted(by, "ManageRole", &Place::Space(space.clone()))?;
        let linger = self.has(Fault::DeletedRolesLinger);
        if let Some(space) = self.spaces.get_mut(space) {
            space.roles.retain(|known| known.id != *role);
            if !linger {
                for member in &mut space.members {
                    member.roles.retain(|held| held != role);
                }
            }
        }
        self.rules.forget_role(role);
        let event = Event::new("RoleDeleted", json!({ "id": role.as_str(), "spaceId": space.as_str() }));
        Ok(Outcome::change(event.clone()).telling(self.others_in_space(space, by), event))
    }

    pub(super) fn assign_role(
        &mut self,
        by: &str,
        role: &Id,
        user: &str,
        space: &Id,
    ) -> Result<Outcome, CommandError> {
        self.must_have_role(space, role)?;
        self.must_be_pair(by, user, space)?;
        self.must_be_permitted(by, "ManageRole", &Place::Space(space.clone()))?;
        let tolerant = self.has(Fault::HeldRolesAssigned);
        let held = self.roles_mut(space, user)?;
        if held.contains(role) {
            if !tolerant {
                return Err(CommandError::RoleExists);
            }
        } else {
            held.push(role.clone());
        }
        self.member_update(by, user, space)
    }

    pub(super) fn deassign_role(
        &mut self,
        by: &str,
        role: &Id,
        user: &str,
        space: &Id,
    ) -> Result<Outcome, CommandError> {
        self.must_have_role(space, role)?;
        self.must_be_pair(by, user, space)?;
        self.must_be_permitted(by, "ManageRole", &Place::Space(space.clone()))?;
        let tolerant = self.has(Fault::UnheldRolesDeassigned);
        let held = self.roles_mut(space, user)?;
        if !held.contains(role) && !tolerant {
            return Err(CommandError::RoleNotFound);
        }
        held.retain(|known| known != role);
        self.member_update(by, user, space)
    }

    /// Section 2.4: both the giver and the receiver have to be in the space.
    fn must_be_pair(&self, by: &str, user: &str, space: &Id) -> Result<(), CommandError> {
        if self.is_in_space(by, space) && self.is_in_space(user, space) {
            Ok(())
        } else {
            Err(CommandError::UserNotFound)
        }
    }

    pub(super) fn must_have_role(&self, space: &Id, role: &Id) -> Result<(), CommandError> {
        let known = self.space(space)?.roles.iter().any(|known| known.id == *role);
        if known { Ok(()) } else { Err(CommandError::RoleNotFound) }
    }

    fn roles_mut(&mut self, space: &Id, user: &str) -> Result<&mut Vec<Id>, CommandError> {
        let space = self.spaces.get_mut(space).ok_or(CommandError::SpaceNotFound)?;
        let member = space.members.iter_mut().find(|member| member.user == user);
        member.map(|member| &mut member.roles).ok_or(CommandError::UserNotFound)
    }

    fn member_update(&self, by: &str, user: &str, space: &Id) -> Result<Outcome, CommandError> {
        let member = self.space(space)?.members.iter().find(|member| member.user == user);
        let member = self.member_value(member.ok_or(CommandError::UserNotFound)?);
        let event = Event::new("SpaceMemberUpdate", json!({ "member": member }));
        Ok(Outcome::change(event.clone()).telling(self.others_in_space(space, by), event))
    }
}
