//! The computation of permissions (section 2.9), as pure functions: layers in, a value out.

use serde_json::{Value, json};

/// The permissions that the reference knows, and their values on the first layer.
pub const NAMES: [(&str, bool); 8] = [
    ("CreateSpace", true),
    ("ManageSpace", false),
    ("ManageRole", false),
    ("ManageRoom", false),
    ("ManageTopic", false),
    ("CreateMessage", true),
    ("ManagePermission", false),
    ("Root", false),
];

/// What one layer says about one permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// True: allowed.
    pub value: bool,
    /// Layers after this one are not heard.
    pub skip: bool,
}

/// A named setting, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Which permission.
    pub name: String,
    /// What is said about it.
    pub setting: Setting,
}

impl Permission {
    /// A permission without skip.
    pub fn plain(name: &str, value: bool) -> Permission {
        Permission { name: name.to_owned(), setting: Setting { value, skip: false } }
    }

    /// The `Permission` object of section 2.3.
    pub fn encode(&self) -> Value {
        json!({ "name": self.name, "value": self.setting.value, "skip": self.setting.skip })
    }
}

/// What the roles of one layer say together: one that allows suffices, and only those with the winning value can
/// skip.
pub fn cumulate(roles: impl IntoIterator<Item = Setting>) -> Option<Setting> {
    roles.into_iter().reduce(|so_far, role| match (so_far.value, role.value) {
        (true, false) => so_far,
        (false, true) => role,
        _ => Setting { value: role.value, skip: so_far.skip || role.skip },
    })
}

/// The value of the last layer that is defined, or of the first that is defined with skip.
pub fn compute(layers: impl IntoIterator<Item = Option<Setting>>) -> Option<bool> {
    let mut result = None;
    for setting in layers.into_iter().flatten() {
        result = Some(setting.value);
        if setting.skip {
            break;
        }
    }
    result
}

/// True for a name that the reference knows.
pub fn is_known(name: &str) -> bool {
    NAMES.iter().any(|(known, _)| *known == name)
}

/// The value of a known permission on the first layer, when nobody has set it.
pub fn default_of(name: &str) -> Option<Setting> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| Setting { value: *value, skip: false })
}
