//! Both ends over real sockets: against each other, against another's client, against clients and servers that lie or die.

mod both_ends;
mod deaf_servers;
mod door;
mod lying_clients;
mod raw;
mod rig;
mod second_client;
mod spdk;
