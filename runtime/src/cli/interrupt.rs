//! Ctrl-C: the first ends the text in hand cleanly, the second ends the process.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::Failure;

/// 128 + SIGINT, as shells report it.
pub const EXIT_CODE: u8 = 130;

/// Whether somebody looks at [`requested`]; before that, Ctrl-C ends the process at once.
static WATCHED: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Takes Ctrl-C over, from now until the process ends.
pub fn watch() -> Result<(), Failure> {
    WATCHED.store(true, Ordering::SeqCst);
    ctrlc::set_handler(|| {
        if !WATCHED.load(Ordering::SeqCst) || REQUESTED.swap(true, Ordering::SeqCst) {
            process::exit(EXIT_CODE.into());
        }
    })
    .map_err(|error| {
        Failure::other(format!("cannot handle Ctrl-C: {error}"), "run it in a terminal")
    })
}

/// Whether Ctrl-C was pressed since [`watch`].
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
