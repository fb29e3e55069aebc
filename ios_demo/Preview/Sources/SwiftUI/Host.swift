@MainActor @preconcurrency
public protocol Scene {
    var nodes: [Node] { get }
}

public struct WindowGroup: Scene {
    public let nodes: [Node]

    public init(@ViewBuilder content: () -> Group) {
        nodes = content().nodes
    }
}

@MainActor @preconcurrency
public protocol App {
    associatedtype Body: Scene
    var body: Body { get }
    init()
}

extension App {
    /// Runs the app by the steps on standard input, one a line, its words separated by tabs.
    public static func main() async {
        let app = Self()
        let host = Host { app.body.nodes }
        do {
            while let line = readLine() {
                try await host.take(line.components(separatedBy: "\t"))
            }
        } catch {
            FileHandle.standardError.write(Data("\(error)\n".utf8))
            exit(1)
        }
    }
}

/// A step that the screen does not allow.
struct Impossible: Error, CustomStringConvertible {
    let description: String
}

/// Draws the app again whenever what it showed has changed, and only then; presses and types as told.
@MainActor
final class Host {
    private static let patience = Duration.seconds(60)
    private let content: () -> [Node]
    private var tabs: [Node] = []
    private var chosen = 0
    private var isStale = true

    init(_ content: @escaping () -> [Node]) {
        self.content = content
        refresh()
        for node in tabs.flatMap(\.all) where node.kind == "task" {
            Task { await node.press?() }
        }
    }

    /// `tab NAME`, `enter FIELD TEXT`, `press BUTTON`, `await KIND WORDS` or `draw FILE`.
    func take(_ step: [String]) async throws {
        refresh()
        switch (step[0], step.count) {
        case ("tab", 2): chosen = try index(of: step[1])
        case ("enter", 3): try find(step) { $0.enter != nil && $0.name == step[1] }.enter?(step[2])
        case ("press", 2): try await find(step) { $0.press != nil && $0.words == step[1] }.press?()
        case ("await", 3): try await wait(for: step)
        case ("draw", 2): try page.write(toFile: step[1], atomically: true, encoding: .utf8)
        default: throw Impossible(description: "no such step: \(step.joined(separator: " "))")
        }
    }

    private var screen: [Node] { tabs.flatMap { $0.kind == "tabs" ? [$0.inside[chosen]] : [] } }

    /// What a finger reaches: an alert keeps it from all else.
    private var reach: [Node] {
        let all = screen.flatMap(\.all)
        return all.first { $0.kind == "alert" }?.all ?? all
    }

    private var page: String {
        let names = tabs.flatMap(\.inside).filter { $0.kind == "tab" }.map(\.name)
        let bar = names.enumerated().map { Node(kind: "name", words: $1, styles: $0 == chosen ? ["chosen"] : []) }
        return Node(kind: "screen", inside: screen + [Node(kind: "bar", inside: bar)]).html
    }

    private func refresh() {
        guard isStale else { return }
        isStale = false
        withObservationTracking {
            tabs = content()
        } onChange: {
            Task { @MainActor in self.isStale = true }
        }
    }

    private func index(of name: String) throws -> Int {
        let names = tabs.flatMap(\.inside).map(\.name)
        guard let index = names.firstIndex(of: name) else { throw Impossible(description: "no tab \(name): \(names)") }
        return index
    }

    private func find(_ step: [String], _ fits: (Node) -> Bool) throws -> Node {
        guard let node = reach.first(where: fits) else {
            let words = reach.map(\.words).filter { !$0.isEmpty }
            throw Impossible(description: "cannot \(step.joined(separator: " ")). On the screen: \(words)")
        }
        return node
    }

    /// Until an element of this kind shows these words; a button only counts once it can be pressed.
    private func wait(for step: [String]) async throws {
        let fits = { (node: Node) in
            node.kind == step[1] && node.words == step[2] && (node.kind != "button" || node.press != nil)
        }
        let start = ContinuousClock.now
        while !reach.contains(where: fits), ContinuousClock.now - start < Self.patience {
            try await Task.sleep(for: .milliseconds(5))
            refresh()
        }
        _ = try find(step, fits)
    }
}
