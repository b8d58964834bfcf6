//! What the scheduler refuses. A refusal by admission is no error but a [verdict](crate::admission::Verdict).

use aegis_types::Severity;

/// Why tasks and platform are no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A field has a value without meaning.
    #[error("task `{task}`: {field} is {value}; legal is {legal}")]
    BadField {
        /// The task.
        task: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be legal.
        legal: String,
    },
    /// Two tasks have one name.
    #[error("two tasks are named `{task}`; names are unique")]
    DuplicateName {
        /// The name.
        task: String,
    },
    /// More tasks than the model represents.
    #[error("{count} tasks; at most {max}")]
    TooManyTasks {
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// The platform contradicts itself.
    #[error("platform: {reason}")]
    Platform {
        /// What is wrong and what would be legal.
        reason: String,
    },
    /// Charging a task's overheads leaves the range of time.
    #[error("task `{task}`: budget and overheads together exceed the range of time")]
    Overflow {
        /// The task.
        task: String,
    },
    /// The engine was given a policy that the certificate was not made for.
    #[error("the certificate is for {certified}, the policy is {given}")]
    PolicyMismatch {
        /// Policy and class of the certificate.
        certified: String,
        /// Policy and class given.
        given: String,
    },
}

impl ModelError {
    /// Input that is wrong stays wrong.
    pub const fn severity(&self) -> Severity {
        Severity::Permanent
    }
}
