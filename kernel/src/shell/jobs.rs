//! Background jobs: what `&` started and nobody has waited for yet.
//!
//! A job's task reports here when it ends; the list is behind one short spin lock. Who waits for a job holds the job itself, so that
//! a second `wait`, or the next prompt, may take it off the list meanwhile.

use super::commands::Status;
use alloc::{collections::BTreeMap, string::String, sync::Arc};
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};
use executor::sync::{SpinLock, WaitQueue};

/// No status yet: one more than any [`Status`].
const RUNNING: u16 = 256;

/// A job in the background.
#[derive(Debug)]
pub(super) struct Job {
    /// What `wait` calls it: counts from 1.
    pub id: usize,
    title: String,
    status: AtomicU16,
    ended: WaitQueue,
}

impl Job {
    /// The exit status, once it has ended.
    pub fn status(&self) -> Option<Status> {
        Status::try_from(self.status.load(Ordering::Acquire)).ok()
    }

    /// Waits until the job has ended.
    pub async fn wait(&self) -> Status {
        self.ended.wait_until(|| self.status()).await
    }

    /// Called by the job's task as its last act.
    pub fn end(&self, status: Status) {
        self.status.store(status.into(), Ordering::Release);
        self.ended.wake_all();
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status() {
            None => write!(f, "[{}] running: {}", self.id, self.title),
            Some(0) => write!(f, "[{}] done: {}", self.id, self.title),
            Some(status) => write!(f, "[{}] exit {status}: {}", self.id, self.title),
        }
    }
}

/// Jobs by number. A tree, because its nodes stay small however many there are.
pub(super) type List = BTreeMap<usize, Arc<Job>>;

/// The shell's background jobs.
#[derive(Debug)]
pub(super) struct Jobs(SpinLock<List>);

impl Jobs {
    pub fn new() -> Self {
        Self(SpinLock::new(List::new()))
    }

    /// Puts a new, running job on the list. Numbers start over when nothing is left, as in other shells.
    pub fn add(&self, title: String) -> Arc<Job> {
        let mut list = self.0.lock();
        let job = Arc::new(Job {
            id: list.last_key_value().map_or(1, |(last, _)| last + 1),
            title,
            status: AtomicU16::new(RUNNING),
            ended: WaitQueue::new("background job"),
        });
        list.insert(job.id, job.clone());
        job
    }

    /// All jobs, ended ones included.
    pub fn all(&self) -> List {
        self.0.lock().clone()
    }

    /// Takes the job off the list.
    pub fn remove(&self, id: usize) {
        self.0.lock().remove(&id);
    }

    /// Takes the jobs that have ended off the list.
    pub fn take_ended(&self) -> List {
        self.0
            .lock()
            .extract_if(.., |_, job| job.status().is_some())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn jobs_are_numbered_and_ended_ones_reported_once() {
        let jobs = Jobs::new();
        let (a, b) = (jobs.add("run a".into()), jobs.add("run b".into()));
        assert_eq!((a.id, b.id), (1, 2));
        b.end(3);
        let ended = jobs.take_ended();
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[&2].to_string(), "[2] exit 3: run b");
        assert!(jobs.take_ended().is_empty());
        a.end(0);
        assert_eq!(jobs.take_ended()[&1].to_string(), "[1] done: run a");
        assert_eq!(jobs.add("run c".into()).id, 1);
    }
}
