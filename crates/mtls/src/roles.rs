//! The one table of roles: who vouches for a role, and where it may stand.

use protocol::Role;

/// Who must have signed a leaf certificate of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// The site's offline root, directly. Verified without any intermediate, so the manager's device
    /// authority can never vouch for one of these.
    Root,
    /// The manager's intermediate, exactly one step below the root.
    DeviceAuthority,
}

/// What a role is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleRule {
    /// The role.
    pub role: Role,
    /// Who vouches for it.
    pub issuer: Issuer,
    /// May accept connections (extended key usage serverAuth).
    pub serves: bool,
    /// May dial (extended key usage clientAuth).
    pub dials: bool,
}

/// Role → issuer and permission.
pub const ROLES: [RoleRule; 4] = [
    RoleRule {
        role: Role::Author,
        issuer: Issuer::Root,
        serves: false,
        dials: true,
    },
    RoleRule {
        role: Role::Repository,
        issuer: Issuer::Root,
        serves: true,
        dials: false,
    },
    RoleRule {
        role: Role::Manager,
        issuer: Issuer::Root,
        serves: true,
        dials: true,
    },
    RoleRule {
        role: Role::Device,
        issuer: Issuer::DeviceAuthority,
        serves: false,
        dials: true,
    },
];

/// The table's row for `role`.
pub const fn rule(role: Role) -> RoleRule {
    match role {
        Role::Author => ROLES[0],
        Role::Repository => ROLES[1],
        Role::Manager => ROLES[2],
        Role::Device => ROLES[3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_finds_its_own_row() {
        for row in ROLES {
            assert_eq!(rule(row.role), row);
        }
    }

    #[test]
    fn only_devices_come_through_the_device_authority() {
        for row in ROLES {
            assert_eq!(row.issuer == Issuer::DeviceAuthority, row.role == Role::Device);
        }
    }
}
