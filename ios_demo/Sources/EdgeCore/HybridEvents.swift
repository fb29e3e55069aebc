/// What happens while a prompt is answered.
public enum HybridEvent: Sendable {
    /// More visible text.
    case text(String)
    /// What was shown so far is void: another answer begins.
    case restart
    /// The end.
    case answered(HybridAnswer)
}

extension HybridSession {
    /// `prompt` answered as ``ask(_:_:)`` does; whoever stops reading stops the prompt.
    ///
    /// The sequence throws ``EdgeError``.
    public nonisolated func events(_ prompt: String) -> AsyncThrowingStream<HybridEvent, any Error> {
        AsyncThrowingStream { feed in
            let asking = Task {
                do {
                    feed.yield(.answered(try await ask(prompt, Feed(feed: feed))))
                    feed.finish()
                } catch {
                    feed.finish(throwing: error)
                }
            }
            feed.onTermination = { _ in asking.cancel() }
        }
    }

    /// The answer to `prompt`, once it is whole.
    public func answer(_ prompt: String) async throws -> HybridAnswer {
        try await ask(prompt, Unheard())
    }
}

private struct Feed: HybridListener {
    let feed: AsyncThrowingStream<HybridEvent, any Error>.Continuation

    func onText(_ text: String) {
        feed.yield(.text(text))
    }

    func onRestart() {
        feed.yield(.restart)
    }
}

private struct Unheard: HybridListener {
    func onText(_ text: String) {}

    func onRestart() {}
}
