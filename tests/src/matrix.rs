//! What the fault matrix is made of: a gateway with its doubles (`scene`), people who write and programs that call
//! (`load`, `caller`), and chance that can be repeated (`chance`). What must hold afterwards is `oracle`'s business.

pub mod caller;
pub mod chance;
pub mod load;
pub mod processes;
pub mod scene;

/// What a reply goes through, and so what a death in the middle of it may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Calls with an idempotency key (WebSocket): class A.
    Rpc,
    /// Telegram text: an edit of a placeholder whose id is stored, class A in effect.
    Edit,
    /// Telegram files: plain sends that nobody can tell apart, class C.
    File,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Edit, Self::Rpc, Self::File];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Edit => "edit",
            Self::File => "file",
        }
    }
}
