//! What the program of a run says: samples, a line each, and whatever else it may complain of.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Reading, Run, Series};
use crate::report::{Case, Figure};
use crate::samples::{NoRoom, Samples};

/// Longest line that is listened to, in bytes; what is beyond is lost.
const LINE: usize = 120;

/// Why a run is no measurement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Some samples are missing.
    #[error("{0} of {1} samples came{2}")]
    Missing(usize, usize, String),
    /// No memory for the cases.
    #[error("no memory for the samples")]
    NoRoom,
}

/// Hears a program out.
#[derive(Debug)]
pub struct Listener {
    run: Run,
    rounds: usize,
    /// In the order of the kind's series.
    samples: Vec<Samples>,
    line: Vec<u8>,
    /// The last line that was no sample.
    complaint: String,
}

impl Listener {
    /// For a run of so many rounds.
    ///
    /// # Errors
    /// [`NoRoom`] for the samples.
    pub fn new(run: Run, rounds: usize) -> Result<Self, NoRoom> {
        let series = run.kind.series();
        let samples = series.iter().map(|_| Samples::with_capacity(rounds));
        let mut line = Vec::new();
        line.try_reserve_exact(LINE).map_err(|_| NoRoom)?;
        Ok(Self {
            run,
            rounds,
            samples: samples.collect::<Result<_, _>>()?,
            line,
            complaint: String::new(),
        })
    }

    /// Takes the next bytes of what the program says.
    pub fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    self.end_line();
                    self.line.clear();
                }
                _ if self.line.len() < LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// What it complained of last; empty if of nothing.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        match self.sample(&line) {
            Some((at, value)) => self.samples[at].push(value),
            None => self.complaint = line.into_owned(),
        }
    }

    /// `sample NAME VALUE`: which series, and the value.
    fn sample(&self, line: &str) -> Option<(usize, u64)> {
        let (name, value) = line.strip_prefix("sample ")?.split_once(' ')?;
        let named = |series: &Series| series.name == name;
        let at = self.run.kind.series().iter().position(named)?;
        Some((at, value.parse().ok()?))
    }

    /// The cases of the run, given what the kernel knew before and after it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn cases(self, before: &Reading, after: &Reading) -> Result<Vec<Case>, Trouble> {
        let counts = self.samples.iter().map(Samples::len);
        let least = counts.min().unwrap_or(0);
        if least < self.rounds {
            let why = match self.complaint.as_str() {
                "" => String::new(),
                complaint => alloc::format!(": {complaint}"),
            };
            return Err(Trouble::Missing(least, self.rounds, why));
        }
        let listed = [
            ("uareas_hit", after.hits - before.hits),
            ("uareas_made", after.made - before.made),
            ("uareas_released", after.released - before.released),
            ("frames_before", before.frames),
            ("frames_after", after.frames),
            ("pool_pages_before", before.pool_pages),
            ("pool_pages_after", after.pool_pages),
            ("tasks_before", before.tasks),
            ("tasks_after", after.tasks),
        ];
        let mut cases = Vec::new();
        for (series, samples) in self.run.kind.series().iter().zip(self.samples) {
            let mut figures = Vec::new();
            figures
                .try_reserve_exact(listed.len())
                .map_err(|_| Trouble::NoRoom)?;
            figures.extend(listed.map(|(name, value)| Figure { name, value }));
            cases.try_reserve(1).map_err(|_| Trouble::NoRoom)?;
            cases.push(Case {
                name: self.run.name(series),
                what: series.what,
                kernel: samples,
                device: Samples::none(),
                figures,
            });
        }
        Ok(cases)
    }
}
