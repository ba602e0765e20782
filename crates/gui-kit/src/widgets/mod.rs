//! Widgets that all windows share. Each has a name for a screen reader and is found by it in tests.

mod button;
mod chooser;
mod events;
mod follow;
mod notice;
mod progress;
mod secret;
mod table;
mod toast;
mod turn;

pub use button::{danger_button, primary_button, theme_button};
pub use chooser::{Choice, Chooser};
pub use events::{EventLine, EventList};
pub use follow::follow_focus;
pub use notice::{Notice, Tone, connection_notice, empty_state, pill};
pub use progress::{Meter, meter};
pub use secret::secret_field;
pub use table::{Cells, Column, Rows, Sorting, Table, cut};
pub use toast::Toasts;
pub use turn::{Turn, entered};
