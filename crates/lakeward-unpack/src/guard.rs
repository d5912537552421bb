//! A library that panics on what others wrote must not take the process with
//! it; everything else that panics must.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode`; `None` if it panicked. Nothing that it touched may be used
/// then.
pub(crate) fn caught<T>(decode: impl FnOnce() -> T) -> Option<T> {
    GUARDED.set(true);
    let done = catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(false);
    done.ok()
}

/// Whether a panic of this thread is caught and becomes an error. A process
/// whose broken invariants end it asks this in its panic hook.
#[must_use]
pub fn is_guarded() -> bool {
    GUARDED.get()
}
