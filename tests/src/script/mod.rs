//! Conversations written out byte by byte: what `script-server` sends, in how many writes, and what must reach a
//! client that is being asked to leave.

mod scenes;

pub use scenes::scenes;

/// One thing the server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Reads on until an empty line.
    Read,
    /// Sends the first of these by one write; the second must reach the client.
    Write(String, String),
    /// Waits until the test says go.
    Await,
}

/// One connection. Everything the client says ends with an empty line.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The path of its first request.
    pub name: &'static str,
    /// What the client says before the drain.
    pub before: Option<Vec<u8>>,
    /// What it says once it is among those who are asked to leave; it listens in between.
    pub after: Vec<Vec<u8>>,
    /// What the server does, from the first request on (which it has read).
    pub steps: Vec<Step>,
}

impl Scene {
    /// The same where nobody is asked: all arrives as it is sent.
    #[must_use]
    pub fn left_alone(mut self) -> Self {
        for step in &mut self.steps {
            if let Step::Write(sent, arrives) = step {
                arrives.clone_from(sent);
            }
        }
        self
    }

    /// The same where nothing can be put in: what would, arrives as it is sent.
    #[must_use]
    pub fn of_same_length(mut self) -> Self {
        for step in &mut self.steps {
            if let Step::Write(sent, arrives) = step
                && sent.len() != arrives.len()
            {
                arrives.clone_from(sent);
            }
        }
        self
    }

    /// What must have reached the client when all is done.
    pub fn expected(&self) -> String {
        Self::arrived(&self.steps)
    }

    /// How many bytes reach the client when it has spoken so many times, before the test says go.
    pub fn due(&self, spoken: usize) -> usize {
        if spoken == 0 {
            return 0;
        }
        let mut read = 1;
        let stops = |step: &Step| {
            read += usize::from(*step == Step::Read);
            read > spoken || *step == Step::Await
        };
        let end = self.steps.iter().position(stops);
        let steps = self.steps.get(..end.unwrap_or(self.steps.len()));
        Self::arrived(steps.unwrap_or_default()).len()
    }

    fn arrived(steps: &[Step]) -> String {
        let arrived = steps.iter().filter_map(|step| match step {
            Step::Write(_, arrives) => Some(arrives.as_str()),
            _ => None,
        });
        arrived.collect()
    }
}
