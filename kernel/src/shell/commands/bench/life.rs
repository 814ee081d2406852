//! `bench fork` and `bench exec`: runs the program that they listen to, with the u-area cache as each run wants it.

use super::{FAILED, Lives, Status, print};
use crate::proc::ExitStatus;
use crate::shell::Context;
use crate::shell::commands::piped;
use ::bench::life::{Cache, Listener, Reading, Run};
use ::bench::report::{self, Case};
use alloc::{format, string::String, vec::Vec};
use uvm::Uvm;
use uvm::policy::Setting;

pub(super) use ::bench::life::{EXEC, FORK};

/// Samples of a case, unless told.
pub(super) const COUNT: usize = 200;

/// Carries out what was asked for. Dropped at Ctrl-C, it kills the program, and the cache is as it was.
pub(super) async fn bench(shell: Context, request: Lives) -> Status {
    let mut cases: Vec<Case> = Vec::new();
    let mut status = 0;
    for &run in request.runs {
        let mut measured = match measure(&shell, run, request.count).await {
            Ok(measured) => measured,
            Err(why) => {
                let name = run.name(&run.kind.series()[0]);
                match request.json {
                    true => shell.say(format_args!(
                        "{{\"left_out\":\"{name}\",\"why\":\"{}\"}}",
                        // It may be the program's own words.
                        why.replace(['"', '\\'], "'")
                    )),
                    false => shell.say(format_args!("bench: {name}: {why}")),
                }
                status = FAILED;
                continue;
            }
        };
        match request.json {
            true => print(&shell, &mut measured, report::json),
            false => cases.append(&mut measured),
        }
    }
    if !cases.is_empty() {
        print(&shell, &mut cases, report::table);
    }
    status
}

/// One run. An error is the reason why there is nothing to show.
async fn measure(shell: &Context, run: Run, count: usize) -> Result<Vec<Case>, String> {
    let (uvm, executor) = (&shell.system().uvm, &shell.system().executor);
    let _cache = Kept::like(uvm, run.cache);
    let rounds = run.kind.rounds(count);
    // Once for nothing: then the program's pages are in memory, the pools have their slabs, and the cache is filled, or empty.
    listen(shell, run, 1, listener(run, 1)?).await?;
    uvm.uarea_drain_excess().await;
    let listener = listener(run, rounds)?;
    let before = Reading::take(uvm, executor);
    let listener = listen(shell, run, rounds, listener).await?;
    let after = Reading::take(uvm, executor);
    listener
        .cases(&before, &after)
        .map_err(|trouble| format!("{trouble}"))
}

fn listener(run: Run, rounds: usize) -> Result<Listener, String> {
    Listener::new(run, rounds).map_err(|_| String::from("no memory for the samples"))
}

/// Runs the program, and hears what it says.
async fn listen(
    shell: &Context,
    run: Run,
    rounds: usize,
    mut listener: Listener,
) -> Result<Listener, String> {
    let words = run.words(rounds);
    let path = words[0].clone();
    let ended = piped::run(shell, words, |bytes| listener.hear(bytes)).await;
    match ended.map_err(|why| format!("{path}: {why}"))? {
        ExitStatus::Exited(0) => Ok(listener),
        ExitStatus::Exited(code) => Err(format!("exit {code}: {}", listener.complaint())),
        ExitStatus::Killed(signal) => Err(format!("ended by {signal}")),
    }
}

/// The u-area cache as a run wants it, until this is dropped.
struct Kept<'a> {
    uvm: &'a Uvm,
    before: u64,
}

impl<'a> Kept<'a> {
    fn like(uvm: &'a Uvm, cache: Cache) -> Self {
        let before = uvm.setting(Setting::Uareakeep);
        // In range on every machine that boots.
        let _ = uvm.set_setting(Setting::Uareakeep, cache.keep());
        Self { uvm, before }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        // It was in range before.
        let _ = self.uvm.set_setting(Setting::Uareakeep, self.before);
    }
}
