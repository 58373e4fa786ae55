//! What the two sides of a trial say to each other, whatever the layer.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strata_units::Nanos;

use crate::PeerError;

/// What the measuring side says; `M` is what it says in its layer's own words.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Say<M> {
    /// What to do, once.
    Task(Task),
    /// What does your clock show?
    Clock,
    /// I am here.
    Alive,
    /// It is not wanted any more.
    Stop,
    /// Something of the layer's own, while a task is being done.
    Own(M),
}

/// What the other side answers; `M` is what it says in its layer's own words, `R` what it found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer<M, R> {
    /// Its clock, in nanoseconds since some moment of its own.
    Clock(Nanos),
    /// I am here.
    Alive,
    /// Something of the layer's own.
    Own(M),
    /// The task is over.
    Done(R),
    /// It could not be done.
    Failed(String),
}

/// What the other side is to do, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The layer whose it is.
    pub layer: String,
    body: Value,
}

impl Task {
    /// A task of `layer`, which alone understands its body.
    ///
    /// # Errors
    /// [`PeerError::Garbled`] of what is no JSON.
    pub fn new(layer: &str, body: &impl Serialize) -> Result<Task, PeerError> {
        Ok(Task {
            layer: layer.to_owned(),
            body: serde_json::to_value(body).map_err(|e| PeerError::Garbled(e.to_string()))?,
        })
    }

    /// What is to be done.
    ///
    /// # Errors
    /// [`PeerError::Garbled`] when it is no such thing; the channel is still good.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, PeerError> {
        T::deserialize(&self.body)
            .map_err(|e| PeerError::Garbled(format!("a {} task that is none ({e})", self.layer)))
    }
}
