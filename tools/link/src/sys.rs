//! What the standard library has no word for: TUN devices, namespaces, scheduling.

// System calls by hand; each is a few lines and owns nothing beyond its call.
#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io,
    net::UdpSocket,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    time::Duration,
};

/// A TUN device that carries bare IP packets: no header in front, no offloads, so nothing above the MTU. The kernel numbers it;
/// the name comes with it. It is gone when the file is closed.
pub(crate) fn open_tun() -> io::Result<(File, String)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"tlink%d\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let name = request
        .ifr_name
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| char::from(byte.cast_unsigned()))
        .collect();
    Ok((file, name))
}

/// Moves the calling thread, and what it will start, into a network namespace.
pub(crate) fn enter_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: takes two integers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Lets the calling thread run before every ordinary one, as soon as its time has come. Its children are ordinary again.
pub(crate) fn be_punctual() -> io::Result<()> {
    let priority = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: takes an integer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    // SAFETY: reads one `sched_param`, which outlives the call.
    check(unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const priority,
        )
    })
    .map(drop)
}

/// Lets the calling thread run only where and when no other one would (`SCHED_IDLE`).
pub(crate) fn be_idle() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: reads one `sched_param`, which outlives the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const priority) }).map(drop)
}

/// Waits until one of the files can be read or the time is over; says of each whether it can.
pub(crate) fn wait_readable<const N: usize>(
    files: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = files.map(|file| libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `polled` has N items and `timeout` is null or one `timespec`; both outlive the call.
    let result = unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            N as libc::nfds_t,
            timeout,
            std::ptr::null(),
        )
    };
    match check(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Err(_) => Ok([false; N]),
        Ok(_) => Ok(polled.map(|file| file.revents != 0)),
    }
}

/// Sends a signal to a process.
///
/// # Errors
/// Where there is no such process, or it is not ours.
pub fn signal(process: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes two integers.
    check(unsafe { libc::kill(process, signal) }).map(drop)
}

/// Lets the kernel cut what is sent on this socket into datagrams of this length (UDP GSO).
pub(crate) fn set_udp_segment(socket: &UdpSocket, length: u16) -> io::Result<()> {
    let length = libc::c_int::from(length);
    // SAFETY: reads one `int`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const length).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Above what benchmarks run themselves with (`chrt` 1 to 10 are common): beside one at 10, a link at 1 handed one packet in a hundred
/// on 10 ms late. Below the kernel's own threads, which have 50 and more.
const PRIORITY: libc::c_int = 20;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
