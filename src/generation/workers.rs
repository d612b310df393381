//! One step of a computation, shared by the threads of this process.
//!
//! Writing a token takes some hundred steps of a tenth of a millisecond, one after the other. Threads that fall asleep
//! between two steps cost more than they help, so that workers stay awake for a moment and wait for the next one. A step
//! is handed out in runs that get shorter towards its end (guided self-scheduling: Polychronopoulos and Kuck 1987), and
//! whoever is late finds it done: the caller waits only for work that somebody has begun, since on a machine that others
//! use a thread may be away for long.
//!
//! As many threads as rayon's pool has, the caller's among them. Long steps on many independent items are left to rayon.

#![expect(
    unsafe_code,
    reason = "lending a step to threads that outlive it, and parts of a slice to several threads, have no safe form \
              without starting threads at every step"
)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, RwLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a worker waits awake for the next step: longer than what one thread does alone between two.
const AWAKE: Duration = Duration::from_micros(200);
/// Looks at what another thread will change before the system is asked to let that thread run.
const MAX_LOOKS: usize = 2_000;

static WORKERS: LazyLock<Workers> =
    LazyLock::new(|| Workers::start(rayon::current_num_threads().saturating_sub(1)));

/// Calls `task` with each chunk of `n_values` values and its number, on all threads: runs of at least `min_chunks` go to
/// one thread. Steps that are shorter than that, and steps within a step, stay with the caller.
pub(crate) fn for_each_chunk<T: Send>(
    values: &mut [T],
    n_values: usize,
    min_chunks: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    let n_values = n_values.max(1);
    let n_chunks = values.len().div_ceil(n_values);
    let parts = Parts(values.as_mut_ptr(), values.len());
    WORKERS.run(n_chunks, min_chunks, &|chunks| {
        for chunk in chunks {
            // SAFETY: each chunk is handed out once, and `values` is borrowed until all of them are done.
            task(chunk, unsafe { parts.part(chunk * n_values, n_values) });
        }
    });
}

/// A slice that several threads write, each in its own part.
struct Parts<T>(*mut T, usize);

// SAFETY: the parts are disjoint, and a value may go to another thread.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    /// # Safety
    /// `start` is within the slice, and no other part that is in use overlaps this one.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps parts apart")]
    unsafe fn part(&self, start: usize, n_values: usize) -> &mut [T] {
        // SAFETY: the caller's promise; the length ends with the slice.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), n_values.min(self.1 - start)) }
    }
}

type Task<'a> = dyn Fn(Range<usize>) + Sync + 'a;

struct Workers {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    /// Held by the caller whose step is being done.
    busy: Mutex<()>,
}

struct Shared {
    /// The step being done. Who works on it holds the lock for reading: the caller gets it for writing when all are done.
    step: RwLock<Option<Step>>,
    /// Changes with each step.
    round: AtomicUsize,
    n_asleep: AtomicUsize,
    failed: AtomicBool,
}

/// Items that a task is called with.
struct Step {
    task: &'static Task<'static>,
    next: AtomicUsize,
    n_items: usize,
    min_items: usize,
    n_threads: usize,
}

impl Step {
    /// Works until nothing is left to take.
    fn work(&self) {
        let take = |next: usize| {
            let n_left = self.n_items.checked_sub(next).filter(|&left| left > 0)?;
            let run = (n_left / (2 * self.n_threads)).max(self.min_items);
            Some(next + run.min(n_left))
        };
        let order = Ordering::Relaxed;
        while let Ok(start) = self.next.fetch_update(order, order, take) {
            let end = take(start).unwrap_or(start);
            (self.task)(start..end);
        }
    }
}

impl Workers {
    fn start(n_workers: usize) -> Self {
        let shared = Arc::new(Shared {
            step: RwLock::new(None),
            round: AtomicUsize::new(0),
            n_asleep: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("step-{index}"));
            // A system that allows no more threads leaves the work to those there are.
            let handle = builder.spawn(move || shared.work_forever()).ok()?;
            Some(handle.thread().clone())
        };
        Workers {
            threads: (0..n_workers).map_while(spawn).collect(),
            shared,
            busy: Mutex::new(()),
        }
    }

    /// Calls `task` with runs of the items below `n_items`, each item once, and returns when all are done.
    fn run(&self, n_items: usize, min_items: usize, task: &Task) {
        let min_items = min_items.max(1);
        let is_short = n_items <= min_items || self.threads.is_empty();
        let Some(_busy) = (!is_short).then(|| self.busy.try_lock().ok()).flatten() else {
            return task(0..n_items);
        };
        // SAFETY: `close` returns when no worker holds the step any more, and is called before `task` ends, even when
        // it panics.
        let task = unsafe { std::mem::transmute::<&Task, &'static Task<'static>>(task) };
        self.shared.set_step(Some(Step {
            task,
            next: AtomicUsize::new(0),
            n_items,
            min_items,
            n_threads: self.threads.len() + 1,
        }));
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        if self.shared.n_asleep.load(Ordering::SeqCst) > 0 {
            self.threads.iter().for_each(Thread::unpark);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.shared.join()));
        self.shared.set_step(None);
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        assert!(
            !self.shared.failed.swap(false, Ordering::Relaxed),
            "a worker panicked"
        );
    }
}

impl Shared {
    /// Puts a step in place of the one before, once nobody works on that any more.
    fn set_step(&self, step: Option<Step>) {
        let mut n_looks = 0;
        loop {
            if let Ok(mut place) = self.step.try_write() {
                *place = step;
                return;
            }
            wait_awake(&mut n_looks);
        }
    }

    /// Works on the step there is, if any.
    fn join(&self) {
        if let Ok(step) = self.step.read()
            && let Some(step) = &*step
        {
            step.work();
        }
    }

    fn work_forever(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait_for_round_after(seen);
            if catch_unwind(AssertUnwindSafe(|| self.join())).is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Awake for a while, then asleep.
    fn wait_for_round_after(&self, seen: usize) -> usize {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let round = self.round.load(Ordering::Acquire);
                if round != seen {
                    return round;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() < AWAKE {
                continue;
            }
            self.n_asleep.fetch_add(1, Ordering::SeqCst);
            // A caller that came before the line above is seen here; one that comes after it sees a sleeper.
            while self.round.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            self.n_asleep.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn wait_awake(n_looks: &mut usize) {
    *n_looks += 1;
    if *n_looks < MAX_LOOKS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_by_any_number_of_threads() {
        for n_workers in [0, 1, 3] {
            let workers = Workers::start(n_workers);
            for (n_items, min_items) in [(0, 1), (1, 1), (2, 1), (100, 1), (1000, 7), (5, 9)] {
                let counts: Vec<AtomicUsize> = (0..n_items).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..100 {
                    workers.run(n_items, min_items, &|items| {
                        for count in &counts[items] {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                for count in &counts {
                    assert_eq!(count.load(Ordering::Relaxed), 100);
                }
            }
        }
    }

    #[test]
    fn chunks_cover_the_values_and_know_their_number() {
        let mut values = vec![0; 1003];
        for_each_chunk(&mut values, 10, 1, |index, chunk| {
            chunk.fill(index + 1);
            // A step within a step is done by whoever began it.
            for_each_chunk(chunk, 1, 1, |_, one| one[0] *= 2);
        });
        for (index, value) in values.iter().enumerate() {
            assert_eq!(*value, 2 * (index / 10 + 1));
        }
    }

    #[test]
    fn several_callers_do_not_wait_for_each_other() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let mut values = [1; 64];
                        for_each_chunk(&mut values, 1, 1, |index, one| one[0] += index);
                        assert_eq!(values.iter().sum::<usize>(), 64 + 63 * 64 / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_workers_live_on() {
        let workers = Workers::start(2);
        for bad in [0, 5, 63] {
            let run = || {
                workers.run(64, 1, &|items| {
                    std::thread::sleep(Duration::from_micros(50));
                    assert!(!items.contains(&bad), "item {bad}");
                });
            };
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        let n_done = AtomicUsize::new(0);
        workers.run(64, 1, &|items| {
            n_done.fetch_add(items.len(), Ordering::Relaxed);
        });
        assert_eq!(n_done.into_inner(), 64);
    }

    #[test]
    fn workers_that_fell_asleep_are_woken() {
        let workers = Workers::start(1);
        let slow = |items: Range<usize>| {
            std::thread::sleep(Duration::from_millis(1) * u32::try_from(items.len()).unwrap())
        };
        for _ in 0..20 {
            std::thread::sleep(AWAKE * 3);
            workers.run(4, 1, &slow);
        }
    }
}
