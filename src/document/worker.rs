//! Runs one parse where it can do no harm: on a thread with a large stack, its panics caught and kept quiet.
//!
//! A stack overflow cannot be caught, so readers do not recurse over their input; the large stack is for libraries
//! that do. A thread that runs away cannot be stopped either: that is the [`Budget`](super::Budget)'s part.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::thread;

use anyhow::{Context, Result, bail};

/// Only touched pages of a stack cost memory.
const N_STACK_BYTES: usize = 64 << 20;

const THREAD_NAME: &str = "ragq-document";

/// Runs `work`; a panic in it becomes an error.
pub(super) fn guarded<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    keep_panics_quiet();
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .stack_size(N_STACK_BYTES)
            .spawn_scoped(scope, || panic::catch_unwind(AssertUnwindSafe(work)))
            .context("no thread to read the file with")?;
        match worker.join() {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(payload)) | Err(payload) => {
                bail!(
                    "damaged in a way that ragq cannot read: {}",
                    message(&*payload)
                )
            }
        }
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

/// The standard hook prints a panic to stderr even if it is caught; a library must not. All other threads keep
/// theirs.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let inherited = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            if thread::current().name() != Some(THREAD_NAME) {
                inherited(information);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = guarded::<()>(|| panic!("index out of range")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "damaged in a way that ragq cannot read: index out of range"
        );
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }
}
