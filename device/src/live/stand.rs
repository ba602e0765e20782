//! The socket at which the programs of one component report.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;

use durable::Files;
use handoff::Desk;
use release::Component;

use crate::layout::Layout;
use crate::supervise::bounds::Account;
use crate::trust::chain;

/// One component's desk, open for as long as the agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Stand {
    pub(crate) desk: Arc<Desk>,
}

impl Stand {
    /// Opens it for programs of this user; in the place of an earlier agent's, whose programs dial again.
    ///
    /// # Errors
    /// Those of the disk; a path that is too long for a socket (unix(7): 107 bytes).
    pub(crate) fn open(
        files: &Files,
        layout: &Layout,
        component: &Component,
        account: Option<Account>,
    ) -> Result<Self, String> {
        files
            .create_dir(&layout.live(), 0o711)
            .map_err(|error| chain(&error))?;
        let path = layout.live_socket(component);
        let desk = Desk::open(&path).map_err(|error| chain(&error))?;
        let given = std::fs::set_permissions(&path, Permissions::from_mode(0o600));
        let given = given.and_then(|()| match account {
            Some(account) => chown(&path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        });
        given.map_err(|error| format!("{} cannot be given to its user: {error}", path.display()))?;
        Ok(Self { desk: Arc::new(desk) })
    }

    /// What a program's environment says, so that it reports here under this token.
    pub(crate) fn variables(&self, token: &str, takes_over: bool) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            (handoff::SOCKET, self.desk.path().display().to_string()),
            (handoff::TOKEN, token.to_owned()),
        ];
        if takes_over {
            variables.push((handoff::ROLE, handoff::SUCCESSOR.to_owned()));
        }
        variables
    }
}
