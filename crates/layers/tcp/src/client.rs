//! Connecting to the other side, and what every socket of a trial is set to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::engine::SLEEP;
use crate::server::ACCEPT;

/// Connects to the port on loopback, says the token, and waits until it is said back: what is sent before the other side
/// has taken the connection (it may be busy with a stranger's) would stand in the first latency.
pub(crate) fn connect(port: u16, token: u64) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(ACCEPT))?;
    socket.write_all(&token.to_le_bytes())?;
    let mut said = [0; 8];
    socket.read_exact(&mut said)?;
    if u64::from_le_bytes(said) != token {
        return Err(io::Error::other("something else answers there"));
    }
    set_up(&socket)?;
    Ok(socket)
}

/// No sleep in the kernel outlasts the loop's look at its clock, and small messages go at once.
pub(crate) fn set_up(socket: &TcpStream) -> io::Result<()> {
    let sleep: Duration = SLEEP.as_duration();
    socket.set_read_timeout(Some(sleep))?;
    socket.set_write_timeout(Some(sleep))?;
    socket.set_nodelay(true)
}
