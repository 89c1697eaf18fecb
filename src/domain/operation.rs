//! Owns the built-in operations, which are the kinds of questions. Each operation has a time to
//! live for its answers and a system message for the upstream.

use chrono::TimeDelta;

use super::by_name::serde_by_name;

serde_by_name!(Operation);

/// A kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Questions about wedding vendors.
    WeddingQuery,
    /// A coaching conversation.
    Chat,
    /// A workout plan.
    WorkoutPlan,
    /// A meal plan.
    MealPlan,
    /// An analysis of a person's progress.
    ProgressAnalysis,
}

impl Operation {
    /// Every operation. [`Self::index`] gives the position of an operation in this array.
    pub const ALL: [Self; 5] =
        [Self::WeddingQuery, Self::Chat, Self::WorkoutPlan, Self::MealPlan, Self::ProgressAnalysis];

    /// Returns the name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WeddingQuery => "wedding-query",
            Self::Chat => "chat",
            Self::WorkoutPlan => "workout-plan",
            Self::MealPlan => "meal-plan",
            Self::ProgressAnalysis => "progress-analysis",
        }
    }

    /// Reads the name on the wire. Returns `None` if no operation has it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// Returns the position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the time to live of an answer. `default` is the time of the installation, which
    /// holds for the operations that have no time of their own.
    pub const fn ttl(self, default: TimeDelta) -> TimeDelta {
        match self {
            Self::WeddingQuery => default,
            Self::Chat => TimeDelta::seconds(3_600),
            Self::WorkoutPlan | Self::MealPlan => TimeDelta::seconds(86_400),
            Self::ProgressAnalysis => TimeDelta::seconds(1_800),
        }
    }

    /// Returns the system message. A change of any message needs a new
    /// [`super::prompt::TEMPLATE_VERSION`].
    pub const fn system_message(self) -> &'static str {
        match self {
            Self::WeddingQuery => {
                "You help couples and wedding vendors. Answer the question for the given location, \
                 vendor types, budget and date. Be concrete and brief."
            }
            Self::Chat => {
                "You are a fitness coach. Answer the message in a friendly, practical way."
            }
            Self::WorkoutPlan => {
                "You are a fitness coach. Write a workout plan that fits the given goals and limits."
            }
            Self::MealPlan => {
                "You are a nutrition coach. Write a meal plan that fits the given goals and limits."
            }
            Self::ProgressAnalysis => {
                "You are a fitness coach. Analyse the given progress and say what to change."
            }
        }
    }
}
