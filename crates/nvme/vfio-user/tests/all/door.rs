//! Who is let in, and where.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::spawn;

use rustix::process::{Uid, geteuid};
use strata_units::Nanos;
use strata_vfio_user::{Client, ClientError, Polled, Server, ServerError};

use crate::raw::Raw;
use crate::rig::{Board, LONG, Served, folder};

#[test]
fn the_folder_is_private() {
    let above = folder();
    let folder = above.path().join("emulated");
    let server = Server::bind(&folder).expect("made");
    assert_eq!(fs::metadata(&folder).expect("there").mode() & 0o777, 0o700);
    assert_eq!(server.path(), folder.join("cntrl"));
    drop(server);
    assert!(
        !folder.join("cntrl").exists(),
        "the socket goes with its server"
    );

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).expect("set");
    let open = Server::bind(&folder)
        .map(|_| ())
        .expect_err("others may enter");
    assert!(matches!(open, ServerError::Open { .. }), "{open}");
    assert!(open.to_string().contains("its mode is 0750"), "{open}");
    let file = above.path().join("file");
    fs::write(&file, "").expect("written");
    let link = above.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).expect("linked");
    for none in [file, link] {
        let open = Server::bind(&none).map(|_| ()).expect_err("no folder");
        assert!(open.to_string().contains("it is no folder"), "{open}");
    }
    let deep = above.path().join("a/b");
    let absent = Server::bind(&deep)
        .map(|_| ())
        .expect_err("nothing above it");
    assert!(matches!(absent, ServerError::System { .. }), "{absent}");
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let folder = folder();
    let path = folder.path().join("cntrl");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "left over");
    let server = Server::bind(folder.path()).expect("replaced");
    let taken = Server::bind(folder.path()).map(|_| ()).expect_err("taken");
    assert!(
        taken.to_string().contains("another server listens there"),
        "{taken}"
    );
    drop(server);
    fs::write(&path, "precious").expect("written");
    let taken = Server::bind(folder.path()).map(|_| ()).expect_err("taken");
    assert!(taken.to_string().contains("no socket"), "{taken}");
    assert_eq!(fs::read(&path).expect("there"), b"precious");
    fs::remove_file(&path).expect("removed");
    // Another's socket in its place is not taken away.
    let server = Server::bind(folder.path()).expect("bound");
    fs::remove_file(&path).expect("removed");
    let _other = UnixListener::bind(&path).expect("bound");
    drop(server);
    assert!(path.exists());
}

#[test]
fn nobody_there_is_told() {
    let folder = folder();
    let absent = Client::connect(folder.path(), LONG).expect_err("nobody");
    assert!(
        matches!(absent, ClientError::Unreachable { .. }),
        "{absent}"
    );
    assert!(
        absent.to_string().contains("cntrl: No such file"),
        "{absent}"
    );
    let long = folder.path().join("x".repeat(200));
    let long = Client::connect(&long, LONG).expect_err("too long for an address");
    assert!(matches!(long, ClientError::Unreachable { .. }), "{long}");
}

#[test]
fn a_second_client_is_told_that_there_is_one() {
    let served = Served::new();
    let mut first = served.client();
    let busy = Client::connect(served.path(), LONG).expect_err("there is one");
    assert!(matches!(busy, ClientError::Refused { .. }), "{busy}");
    assert!(
        busy.to_string().contains("another client has the device"),
        "{busy}"
    );
    first.reset().expect("it is not disturbed");
    // Many who say nothing do not keep it either.
    let crowd: Vec<Raw> = (0..30).map(|_| Raw::connect(&served)).collect();
    first.reset().expect("it is not disturbed");
    drop(crowd);
    let mut waiting = Raw::connect(&served);
    drop(first);
    served.left();
    let reply = waiting.ask(1, &[0, 0, 1, 0]);
    assert_eq!(reply.flags, 1, "who had not spoken yet is served then");
    drop(waiting);
    served.end();
}

#[test]
fn another_user_is_not_listened_to() {
    if !geteuid().is_root() {
        println!("SKIP another_user_is_not_listened_to: becoming another user needs root");
        return;
    }
    let above = folder();
    let folder = above.path().join("emulated");
    let mut server = Server::bind(&folder).expect("bound");
    // Both doors are opened, so that only the question who it is stands between them.
    for path in [above.path(), &folder, server.path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
    }
    let path = server.path().to_owned();
    let stranger = spawn(move || {
        let nobody = Uid::from_raw(65534);
        // This thread only (setresuid(2), C library/kernel differences).
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may");
        UnixStream::connect(path)
    });
    let stranger = stranger.join().expect("no panic").expect("connected");
    let mut board = Board::new();
    while server.wait(Nanos::from_millis(200)).expect("waited") {
        let turn = server.poll(&mut board).expect("polled");
        assert!(matches!(turn, Polled::Busy | Polled::Idle), "{turn:?}");
    }
    assert!(!server.has_client());
    let mut raw = stranger;
    let read = std::io::Read::read(&mut raw, &mut [0; 1]).expect("closed");
    assert_eq!(read, 0, "it is let go");
}

#[test]
fn polling_never_waits() {
    let folder = folder();
    let mut server = Server::bind(folder.path()).expect("bound");
    let mut board = Board::new();
    let turn = |server: &mut Server, board: &mut Board| server.poll(board).expect("polled");
    assert!(matches!(turn(&mut server, &mut board), Polled::Idle));
    assert!(!server.wait(Nanos::from_millis(1)).expect("waited"));
    let client = spawn({
        let folder = folder.path().to_owned();
        move || Client::connect(&folder, LONG).and_then(|mut client| client.reset())
    });
    let mut seen = Vec::new();
    while board.gone == 0 {
        server.wait(LONG).expect("waited");
        seen.push(match turn(&mut server, &mut board) {
            Polled::Idle => continue,
            Polled::Joined => "joined",
            Polled::Busy => "busy",
            Polled::Left(_) => "left",
        });
    }
    assert_eq!(seen, ["joined", "busy", "busy", "left"]);
    client.join().expect("no panic").expect("served");
    assert_eq!(board.resets, 1);
    server.dismiss(&mut board);
    assert_eq!(board.gone, 1, "nobody is there to be sent away");
}
