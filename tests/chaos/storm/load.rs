//! Steady load: each person and each program has one question open at any time, and moves to a new chat or session now and
//! then, so that histories stay short.

use harness::matrix::Class;
use harness::matrix::load::{self, Book, FIRST_CHAT};
use harness::matrix::scene::{ANSWER, Scene};
use harness::telegram_server::TelegramServer;
use harness::wait;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const PEOPLE: u32 = 8;
/// The last of them want files.
const FILES_FROM: u32 = 6;
const PROGRAMS: u32 = 4;
/// Messages in one chat or session before a new one is begun.
const HISTORY_MAX: u32 = 12;
/// One question may take as long as all deaths in its way.
const PATIENCE: Duration = Duration::from_secs(240);

pub struct Crowd {
    book: Book,
    tasks: JoinSet<Result<(), String>>,
    stop: Arc<AtomicBool>,
    /// Numbers for chats and sessions, never used twice.
    numbers: Arc<AtomicU32>,
    repeats: Arc<AtomicU32>,
}

impl Crowd {
    pub fn new(scene: &Scene) -> Self {
        Self {
            book: scene.book.clone(),
            tasks: JoinSet::new(),
            stop: Arc::default(),
            numbers: Arc::default(),
            repeats: Arc::default(),
        }
    }

    /// Calls that had to be repeated for a lost answer.
    pub fn repeats(&self) -> u32 {
        self.repeats.load(Ordering::Relaxed)
    }

    pub fn start(&mut self, scene: &Scene) {
        self.stop = Arc::default();
        let workspace = scene.gateway.workspace();
        for person in 0..PEOPLE {
            let class = if person < FILES_FROM { Class::Edit } else { Class::File };
            let person = Person {
                class,
                server: scene.telegram.handle(),
                workspace: workspace.clone(),
                book: self.book.clone(),
                stop: self.stop.clone(),
                numbers: self.numbers.clone(),
            };
            self.tasks.spawn(person.talk());
        }
        for program in 0..PROGRAMS {
            let agent = ["main", "second", "third"][program as usize % 3];
            let (port, book) = (scene.gateway.port, self.book.clone());
            let (stop, numbers, repeats) = (self.stop.clone(), self.numbers.clone(), self.repeats.clone());
            self.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let session = format!("agent:{agent}:n{number}");
                    for nth in 0..HISTORY_MAX {
                        let mark = format!("mark-rpc{number}-{nth:04}");
                        let called = load::call(port, &book, &session, &mark, PATIENCE).await?;
                        repeats.fetch_add(called.repeats, Ordering::Relaxed);
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
                Ok(())
            });
        }
    }

    /// Nobody asks anything new; returns when all have their answers.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    }
}

struct Person {
    class: Class,
    server: TelegramServer,
    workspace: PathBuf,
    book: Book,
    stop: Arc<AtomicBool>,
    numbers: Arc<AtomicU32>,
}

impl Person {
    async fn talk(self) -> Result<(), String> {
        while !self.stop.load(Ordering::Relaxed) {
            let number = i64::from(self.numbers.fetch_add(1, Ordering::Relaxed));
            for nth in 0..HISTORY_MAX {
                self.ask(number, nth as usize).await?;
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn ask(&self, number: i64, nth: usize) -> Result<(), String> {
        if self.class == Class::File {
            let mark = format!("mark-{}{number}-{nth:04}", self.class.name());
            let text = format!("the file for {mark}\n");
            std::fs::write(self.workspace.join(format!("{mark}.txt")), text)
                .map_err(|error| error.to_string())?;
        }
        let mark = load::write(&self.server, &self.book, self.class, number, nth);
        let chat = FIRST_CHAT + number;
        let end = Instant::now() + PATIENCE;
        loop {
            let texts = self.server.visible_texts(chat);
            if texts.iter().any(|text| text.contains(ANSWER) && text.contains(&mark)) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("{mark} has no answer after {PATIENCE:?}; the chat shows {texts:?}"));
            }
            wait::pause(Duration::from_millis(20)).await;
        }
    }
}
