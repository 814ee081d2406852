//! Reading a terminal: when a read is over, and what it waits for meanwhile.

use super::Tty;
use super::line::{ReadOutcome, Rule};
use crate::fs::FsError;
use crate::fs::io::{IoSink, Sleeper};
use crate::fs::pipe::Wait;
use core::sync::atomic::Ordering::Relaxed;

impl Tty {
    /// Reads a line, or what the raw mode gives: `VMIN` bytes, or fewer when `VTIME` has passed, as POSIX has its
    /// four cases. 0 is the end of the file. Awaits keys unless `wait` is [`Wait::Never`].
    ///
    /// # Errors
    /// [`FsError::WouldBlock`], [`FsError::Interrupted`], [`FsError::Fault`]: only if nothing was read.
    pub async fn read(
        &self,
        cx: &impl Sleeper,
        sink: &mut impl IoSink,
        wait: Wait,
    ) -> Result<usize, FsError> {
        let mut total = 0;
        if sink.remaining() == 0 {
            return Ok(0);
        }
        let began = self.executor.now();
        let mut last = None;
        loop {
            let (outcome, rule) = {
                let mut line = self.line.lock();
                (line.read(sink), line.rule())
            };
            match outcome {
                ReadOutcome::Done(n) => {
                    total += n;
                    if rule == Rule::Line || total >= rule.least() || sink.remaining() == 0 {
                        return Ok(total);
                    }
                    last = Some(self.executor.now());
                    continue;
                }
                ReadOutcome::Fault(n) => {
                    total += n;
                    match sink.fault_in().await {
                        Err(error) if total == 0 => return Err(error),
                        Err(_) => return Ok(total),
                        Ok(()) => continue,
                    }
                }
                ReadOutcome::Empty => {}
            }
            let over = self.ended.load(Relaxed) || (rule == Rule::Line && total > 0);
            let deadline = match rule {
                Rule::Line | Rule::Bytes(_) => None,
                Rule::Gap(_, ns) => last.map(|last: u64| last + ns),
                Rule::Time(ns) => Some(began + ns),
            };
            if over || deadline.is_some_and(|deadline| deadline <= self.executor.now()) {
                return Ok(total);
            }
            let waited = match wait {
                Wait::Never => Err(FsError::WouldBlock),
                Wait::Allowed => self.keys_or(cx, deadline).await,
            };
            match waited {
                Err(error) if total == 0 => return Err(error),
                Err(_) => return Ok(total),
                Ok(()) => {}
            }
        }
    }

    /// Awaits something to read, until the deadline if there is one.
    async fn keys_or(&self, cx: &impl Sleeper, deadline: Option<u64>) -> Result<(), FsError> {
        match deadline {
            None => cx.sleep(self.keys()).await?,
            Some(deadline) => {
                // Which of the two ended it shows when the keys are looked at again.
                let _ = cx
                    .sleep(self.executor.timeout_at(deadline, self.keys()))
                    .await?;
            }
        }
        Ok(())
    }

    /// Awaits something to read.
    async fn keys(&self) {
        let ready = || self.line.lock().has_input() || self.ended.load(Relaxed);
        self.readable.wait_until(|| ready().then_some(())).await;
    }
}
