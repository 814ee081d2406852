//! Terminals as programs see them: `ioctl`, what opening one means, who may read and write it; and the few
//! requests that other files answer.

use super::Args;
use super::abi::{file, out};
use super::errno::{Errno, SysError, SysResult};
use crate::fs::fd::OnExec;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::tty::{Flow, Termios, Tty, Typed, WindowSize};
use crate::proc::job::{self, Background, Use};
use crate::proc::table::session::Claim;
use crate::proc::usermem;
use crate::proc::{Current, Pid};
use alloc::sync::Arc;
use linux_raw_sys::{general as sys, ioctl as io};

/// Bytes of `struct termios`.
const TERMIOS_LEN: usize = 36;

fn termios_bytes(t: &Termios) -> [u8; TERMIOS_LEN] {
    let mut bytes = [0; TERMIOS_LEN];
    for (i, word) in [t.input, t.output, t.control, t.local]
        .into_iter()
        .enumerate()
    {
        bytes[4 * i..4 * i + 4].copy_from_slice(&word.to_le_bytes());
    }
    bytes[16] = t.line;
    bytes[17..].copy_from_slice(&t.characters);
    bytes
}

fn termios_from(bytes: &[u8; TERMIOS_LEN]) -> Termios {
    let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    let mut characters = [0; 19];
    characters.copy_from_slice(&bytes[17..]);
    Termios {
        input: word(0),
        output: word(4),
        control: word(8),
        local: word(12),
        line: bytes[16],
        characters,
    }
}

async fn take<const N: usize>(current: &Current, at: u64) -> Result<[u8; N], SysError> {
    let mut bytes = [0; N];
    usermem::copy_in(current.space(), &mut bytes, at).await?;
    Ok(bytes)
}

pub(super) async fn ioctl(
    current: &mut Current,
    [number, request, argument, ..]: Args,
) -> SysResult {
    let file = file(current, number)?;
    match request as u32 {
        io::FIONREAD => {
            let available = file.available().await?.min(i32::MAX as u64) as u32;
            out(current, argument, &available.to_le_bytes()).await?;
        }
        io::FIONBIO => {
            let on = take::<4>(current, argument).await? != [0; 4];
            let mut flags = file.flags();
            flags.set(OpenFlags::NONBLOCK, on);
            file.set_status(flags);
        }
        io::FIOCLEX | io::FIONCLEX => {
            let on_exec = if request as u32 == io::FIOCLEX {
                OnExec::Close
            } else {
                OnExec::Keep
            };
            current
                .process()
                .files()
                .set_on_exec(super::abi::fd(number), on_exec)?;
        }
        request => return terminal(current, &file, request, argument).await,
    }
    Ok(0)
}

async fn terminal(
    current: &mut Current,
    file: &Arc<OpenFile>,
    request: u32,
    argument: u64,
) -> SysResult {
    let tty = file.terminal()?;
    match request {
        io::TCGETS => out(current, argument, &termios_bytes(&tty.termios())).await?,
        // Output is never held back: it has been shown by the time a write returns, so there is none to await.
        io::TCSETS | io::TCSETSW => set_termios(current, tty, argument, Typed::Keep).await?,
        io::TCSETSF => set_termios(current, tty, argument, Typed::Flush).await?,
        io::TCFLSH => {
            job::may_use(current, tty, Use::Change)?;
            match argument as u32 {
                sys::TCIFLUSH | sys::TCIOFLUSH => tty.flush_input(),
                sys::TCOFLUSH => {}
                _ => return Err(Errno::EINVAL.into()),
            }
        }
        io::TCSBRK | io::TCSBRKP => job::may_use(current, tty, Use::Change)?,
        io::TCXONC => {
            job::may_use(current, tty, Use::Change)?;
            match argument as u32 {
                sys::TCOOFF => tty.flow(Flow::Stop),
                sys::TCOON => tty.flow(Flow::Start),
                sys::TCIOFF => tty.ask(Flow::Stop),
                sys::TCION => tty.ask(Flow::Start),
                _ => return Err(Errno::EINVAL.into()),
            }
        }
        io::TIOCOUTQ => out(current, argument, &[0; 4]).await?,
        io::TIOCGWINSZ => {
            let w = tty.window();
            let words = [w.rows, w.columns, w.width, w.height];
            out(current, argument, zerocopy::IntoBytes::as_bytes(&words)).await?;
        }
        io::TIOCSWINSZ => {
            let b = take::<8>(current, argument).await?;
            let half = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
            tty.set_window(WindowSize {
                rows: half(0),
                columns: half(2),
                width: half(4),
                height: half(6),
            });
        }
        io::TIOCGPGRP => {
            let group = job::owner(current, tty)?.foreground;
            out(current, argument, &group.to_le_bytes()).await?;
        }
        io::TIOCSPGRP => set_foreground(current, tty, argument).await?,
        io::TIOCGSID => {
            let session = job::owner(current, tty)?.session;
            out(current, argument, &session.to_le_bytes()).await?;
        }
        io::TIOCSCTTY => {
            // Everybody is the superuser, who may take it from others by asking with a 1.
            let claim = match argument {
                1 => Claim::Steal,
                _ => Claim::Polite,
            };
            job::acquire(current, tty, claim)?;
        }
        io::TIOCNOTTY => job::give_up(current, tty)?,
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(0)
}

async fn set_termios(
    current: &Current,
    tty: &Arc<Tty>,
    at: u64,
    typed: Typed,
) -> Result<(), SysError> {
    job::may_use(current, tty, Use::Change)?;
    tty.set_termios(termios_from(&take(current, at).await?), typed);
    Ok(())
}

async fn set_foreground(current: &Current, tty: &Arc<Tty>, at: u64) -> Result<(), SysError> {
    match job::may_use(current, tty, Use::Change) {
        Err(Background::Refused) => return Err(Errno::ENOTTY.into()),
        allowed => allowed?,
    }
    let group = u32::from_le_bytes(take(current, at).await?);
    if (group as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(job::put_in_front(current, tty, Pid(group))?)
}

/// Keeps processes in the background from reading their terminal.
#[inline]
pub(super) fn may_read(current: &Current, file: &OpenFile) -> Result<(), SysError> {
    match file.terminal() {
        Ok(tty) if file.flags().reads() => Ok(job::may_use(current, tty, Use::Read)?),
        _ => Ok(()),
    }
}

/// Keeps processes in the background from writing to their terminal, where it is set so.
#[inline]
pub(super) fn may_write(current: &Current, file: &OpenFile) -> Result<(), SysError> {
    match file.terminal() {
        Ok(tty) if file.flags().writes() && tty.termios().keeps_background_quiet() => {
            Ok(job::may_use(current, tty, Use::Change)?)
        }
        _ => Ok(()),
    }
}

/// What a process gets that has opened `file`: `/dev/tty` is its own terminal; and the first terminal that the
/// leader of a session opens becomes that.
pub(super) fn opened(current: &Current, file: Arc<OpenFile>) -> Result<Arc<OpenFile>, SysError> {
    if file.is_own_terminal() {
        let tty = job::terminal(current).ok_or(Errno::ENXIO)?;
        return Ok(file.with_terminal(tty));
    }
    let flags = file.flags();
    if let Ok(tty) = file.terminal()
        && flags.reads()
        && !flags.contains(OpenFlags::NO_TERMINAL)
    {
        // For all but such a leader this is an ordinary open, and not refused.
        let _ = job::acquire(current, tty, Claim::Polite);
    }
    Ok(file)
}

const _: () = assert!(size_of::<sys::termios>() == TERMIOS_LEN);
