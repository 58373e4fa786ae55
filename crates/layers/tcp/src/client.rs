//! Connecting to the other side, and what every socket of a trial is set to.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::engine::SLEEP;

/// Connects to the port on loopback and says the token.
pub(crate) fn connect(port: u16, token: u64) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.write_all(&token.to_le_bytes())?;
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
