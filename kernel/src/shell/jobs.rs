//! Jobs that the shell does not wait for: what `&` started, and what Ctrl-Z stopped.
//!
//! The task that follows a job reports here when it ends, and its program when that stops or goes on; the list is behind one short
//! spin lock, and so is each job. Who waits for a job holds the job itself, so that a second `wait`, or the next prompt, may take it
//! off the list meanwhile.

use super::commands::Status;
use crate::fs::tty::Termios;
use crate::proc::Pid;
use crate::proc::signal::Signal;
use alloc::{collections::BTreeMap, string::String, sync::Arc};
use core::fmt;
use executor::sync::{SpinLock, WaitQueue};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, or waits for something.
    Running,
    /// Its program was stopped by this signal.
    Stopped(Signal),
    /// It has ended.
    Ended(Status),
}

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    Front,
    Back,
}

/// Whether the person has been told where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

#[derive(Debug)]
struct Inner {
    state: State,
    told: Told,
    ground: Ground,
    /// The process group of its program, while it has one.
    group: Option<Pid>,
    /// The terminal's settings when it was stopped in front of it.
    settings: Option<Termios>,
}

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    /// What `wait` calls it: counts from 1.
    pub id: usize,
    title: String,
    inner: SpinLock<Inner>,
    changed: WaitQueue,
}

impl Job {
    /// What was typed.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.inner.lock().state
    }

    /// The process group of its program, while it has one.
    pub fn group(&self) -> Option<Pid> {
        self.inner.lock().group
    }

    /// Whether the shell waits for it, and it has the terminal.
    pub fn is_in_front(&self) -> bool {
        self.inner.lock().ground == Ground::Front
    }

    /// The terminal's settings when it was stopped in front of it.
    pub fn settings(&self) -> Option<Termios> {
        self.inner.lock().settings
    }

    /// Awaits a state in which `which` finds something.
    pub async fn until<T>(&self, which: impl Fn(State) -> Option<T>) -> T {
        self.changed.wait_until(|| which(self.state())).await
    }

    /// It has a program now.
    pub fn set_group(&self, group: Pid) {
        self.inner.lock().group = Some(group);
    }

    /// Its program stopped, went on, or, called by the job's task as its last act, all of it ended.
    pub fn set_state(&self, state: State) {
        let mut inner = self.inner.lock();
        inner.state = state;
        inner.told = Told::No;
        drop(inner);
        self.changed.wake_all();
    }

    /// It is brought to the front.
    pub fn enter_front(&self) {
        let mut inner = self.inner.lock();
        inner.ground = Ground::Front;
        inner.state = State::Running;
    }

    /// It goes to the background; stopped, it leaves the terminal with these settings.
    pub fn leave_front(&self, settings: Termios) {
        let mut inner = self.inner.lock();
        inner.ground = Ground::Back;
        inner.settings = Some(settings);
        inner.told = Told::Yes;
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state() {
            State::Running => write!(f, "[{}] running: {}", self.id, self.title),
            State::Stopped(_) => write!(f, "[{}] stopped: {}", self.id, self.title),
            State::Ended(0) => write!(f, "[{}] done: {}", self.id, self.title),
            State::Ended(status) => write!(f, "[{}] exit {status}: {}", self.id, self.title),
        }
    }
}

/// Jobs by number. A tree, because its nodes stay small however many there are.
pub(super) type List = BTreeMap<usize, Arc<Job>>;

/// The jobs that the shell does not wait for.
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
            inner: SpinLock::new(Inner {
                state: State::Running,
                told: Told::Yes,
                ground: Ground::Back,
                group: None,
                settings: None,
            }),
            changed: WaitQueue::new("background job"),
        });
        list.insert(job.id, job.clone());
        job
    }

    /// All jobs, ended ones included.
    pub fn all(&self) -> List {
        self.0.lock().clone()
    }

    /// The job that `fg` and `bg` mean when they are not told: the youngest one that is stopped, or else the youngest.
    pub fn current(&self) -> Option<Arc<Job>> {
        let list = self.0.lock();
        let stopped = |job: &&Arc<Job>| matches!(job.state(), State::Stopped(_));
        let found = list.values().rev().find(stopped);
        found.or_else(|| list.values().next_back()).cloned()
    }

    /// Takes the job off the list.
    pub fn remove(&self, id: usize) {
        self.0.lock().remove(&id);
    }

    /// The jobs that have ended, which are taken off the list, and those that have stopped since the last call.
    pub fn news(&self) -> List {
        let mut list = self.0.lock();
        let mut news: List = list
            .extract_if(.., |_, job| matches!(job.state(), State::Ended(_)))
            .collect();
        for job in list.values() {
            let mut inner = job.inner.lock();
            let told = core::mem::replace(&mut inner.told, Told::Yes);
            if matches!(inner.state, State::Stopped(_)) && told == Told::No {
                news.insert(job.id, job.clone());
            }
        }
        news
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
        b.set_state(State::Ended(3));
        let ended = jobs.news();
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[&2].to_string(), "[2] exit 3: run b");
        assert!(jobs.news().is_empty());
        a.set_state(State::Ended(0));
        assert_eq!(jobs.news()[&1].to_string(), "[1] done: run a");
        assert_eq!(jobs.add("run c".into()).id, 1);
    }

    #[test]
    fn a_stop_is_reported_once_and_makes_the_current_job() {
        let jobs = Jobs::new();
        assert!(jobs.current().is_none());
        let (a, b) = (jobs.add("run a".into()), jobs.add("run b".into()));
        assert_eq!(jobs.current().unwrap().id, b.id);
        a.set_state(State::Stopped(Signal::TTIN));
        assert_eq!(jobs.current().unwrap().id, a.id);
        assert_eq!(jobs.news()[&1].to_string(), "[1] stopped: run a");
        assert!(jobs.news().is_empty());
        // Stopped in front, it was told at once.
        a.enter_front();
        assert_eq!((a.state(), a.is_in_front()), (State::Running, true));
        a.set_state(State::Stopped(Signal::TSTP));
        a.leave_front(Termios::raw());
        assert!(jobs.news().is_empty() && !a.is_in_front());
        assert_eq!(a.settings(), Some(Termios::raw()));
    }
}
