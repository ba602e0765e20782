//! The canonical English text of the messages that the source document names, each with an id that never
//! changes. Logic is built on ids and types, never on these words.

/// One message: its stable id and a text with `{}` where facts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Stable id, such as `manager.download.successful`.
    pub id: &'static str,
    /// English text.
    pub text: &'static str,
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Message = Message { id: $id, text: $text };)*
        /// All messages, for translators and for the test that ids are unique.
        pub const ALL: &[Message] = &[$($name),*];
    };
}

messages! {
    /// R-004-27.
    FILE_EXISTED = "author.file.existed", "File existed! Please re-select";
    /// R-004-28.
    OLDER_VERSION = "author.version.older", "Upload version is older than current! Please re-select!";
    /// R-004-32.
    CHOSEN = "author.file.chosen", "Choose file successful, start to sign!";
    /// R-004-32.
    SIGNED = "author.signature.success", "{} signature success!";
    /// R-004-32.
    SIGN_FAILED = "author.signature.fails", "{} signature fails!";
    /// R-004-32.
    UPLOAD_FAILED = "author.upload.failure", "Upload {} failure!";
    /// R-004-35.
    UPLOADED = "author.upload.successful", "Upload {} successfully!";
    /// R-004-61.
    DOWNLOADED = "manager.download.successful", "Download {} successful!";
    /// R-004-61.
    VERIFIED = "manager.verify.successful", "{} verify successful!";
    /// R-004-56.
    CORRUPTED = "manager.verify.failure", "Verify failure! File has been corrupted!";
    /// R-004-56.
    DELETED = "manager.file.deleted", "{} has been deleted!";
    /// R-004-65.
    LISTENING = "manager.listening", "Server is listening";
    /// R-004-68.
    AUTHENTICATED = "manager.authenticate.success", "Authenticate success!";
    /// R-004-68.
    AUTHENTICATION_FAILED = "manager.authenticate.fails", "Authenticate fails!";
    /// R-004-70.
    SENT = "manager.send.successful", "Send {} successful!";
    /// R-004-78.
    DEVICE_ADDED = "manager.device.added", "Add trust device success!";
    /// R-004-78.
    DEVICE_EXISTED = "manager.device.existed", "This device has existed!";
    /// R-004-78.
    INPUT_EMPTY = "manager.input.empty", "Fails! Input should not be null!";
    /// R-004-79.
    DEVICE_DELETED = "manager.device.deleted", "Delete trust device success!";
    /// R-004-79.
    DEVICE_MISMATCH = "manager.device.mismatch", "This device doesn't match this value!";
    /// R-004-79.
    DEVICE_UNKNOWN = "manager.device.unknown", "No exist this device!";
    /// R-004-98.
    CONNECTED = "device.connect.successful", "Connect server successful";
    /// R-004-98.
    CONNECT_FAILED = "device.connect.fail", "Connect server fail!";
    /// R-004-101.
    DEVICE_DOWNLOADED = "device.download.successful", "Download {} successful!";
    /// R-004-102.
    FILE_VERIFIED = "device.verify.success", "File verification success";
    /// R-004-102.
    FILE_REFUSED = "device.verify.fails", "File verification fails";
    /// R-004-110.
    PREPARE_INSTALL = "device.install.prepare", "Prepare to install {}";
    /// R-004-110.
    INSTALLED = "device.install.successful", "{} install successful!";
    /// R-004-108.
    INSTALL_FAILED = "device.install.failure", "{} install failure!";
    /// Not in the document: its devices cannot go back.
    ROLLED_BACK_BY_HAND = "device.rolled-back-by-hand", "{} was rolled back by hand";
    /// R-004-96.
    NOTHING_RUNNING = "device.nothing.running", "No application is running!";
    /// R-004-96.
    STARTING = "device.starting", "{} is starting, please wait!";
}

impl Message {
    /// The text with `fact` in its gap.
    #[must_use]
    pub fn with(&self, fact: impl std::fmt::Display) -> String {
        self.text.replacen("{}", &fact.to_string(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_an_id_of_its_own() {
        let mut ids: Vec<_> = ALL.iter().map(|message| message.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len());
    }
}
