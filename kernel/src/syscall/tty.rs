//! `ioctl`: what terminals answer, and the few things that others do.

use super::Args;
use super::abi::{file, out};
use super::errno::{Errno, SysError, SysResult};
use crate::fs::fd::OnExec;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::tty::{Termios, Tty, Typed, WindowSize};
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
    let tty: &Tty = file.terminal()?;
    match request {
        io::TCGETS => out(current, argument, &termios_bytes(&tty.termios())).await?,
        io::TCSETS | io::TCSETSW => set_termios(current, tty, argument, Typed::Keep).await?,
        io::TCSETSF => set_termios(current, tty, argument, Typed::Flush).await?,
        io::TCFLSH => tty.flush_input(),
        // Output is never held back: it has been sent by the time a write returns.
        io::TCSBRK | io::TCXONC => {}
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
        io::TIOCGPGRP => out(current, argument, &tty.foreground().to_le_bytes()).await?,
        io::TIOCSPGRP => {
            let group = u32::from_le_bytes(take(current, argument).await?);
            set_foreground(current, tty, group)?;
        }
        io::TIOCGSID => {
            let (_, session) = own_group_and_session(current)?;
            out(current, argument, &session.0.to_le_bytes()).await?;
        }
        // The one terminal is everybody's, so there is nothing to acquire or give up.
        io::TIOCSCTTY | io::TIOCNOTTY => {}
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(0)
}

async fn set_termios(current: &Current, tty: &Tty, at: u64, typed: Typed) -> Result<(), SysError> {
    tty.set_termios(termios_from(&take(current, at).await?), typed);
    Ok(())
}

fn own_group_and_session(current: &Current) -> Result<(Pid, Pid), Errno> {
    let pid = current.process().pid();
    current
        .system()
        .table()
        .lock()
        .group_and_session(pid)
        .ok_or(Errno::ESRCH)
}

/// A group may be put in front if it is one of the caller's session.
fn set_foreground(current: &Current, tty: &Tty, group: u32) -> Result<(), Errno> {
    if (group as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let (_, session) = own_group_and_session(current)?;
    let exists = current
        .system()
        .list()
        .any(|row| row.group == Pid(group) && row.session == session);
    if !exists {
        return Err(
            if current.system().list().any(|row| row.group == Pid(group)) {
                Errno::EPERM
            } else {
                Errno::ESRCH
            },
        );
    }
    tty.set_foreground(group);
    Ok(())
}

const _: () = assert!(size_of::<sys::termios>() == TERMIOS_LEN);
