@_exported import Foundation
@_exported import Observation

public typealias Action = @MainActor () async -> Void

/// One thing on the screen: its kind, its words, what is inside, and what a finger or the keyboard does to it.
public struct Node {
    let kind: String
    var words = ""
    var inside: [Node] = []
    var styles: [String] = []
    var press: Action?
    var enter: (@MainActor (String) -> Void)?
    /// What a field is called: its prompt, which its text hides.
    var name = ""
    /// What VoiceOver says of it, if not its words.
    var spoken: String?

    /// Itself and all inside, in reading order.
    var all: [Node] { [self] + inside.flatMap(\.all) }

    /// Elements named by their kinds; a page's own style sheet lays them out.
    var html: String {
        let shown = words.isEmpty && enter != nil ? name : words
        let kinds = ([kind] + styles).joined(separator: " ")
        let label = spoken.map { " aria-label=\"\($0.escaped)\"" } ?? ""
        return "<div class=\"\(kinds)\"\(label)>\(shown.escaped)\(inside.map(\.html).joined())</div>"
    }
}

extension String {
    fileprivate var escaped: String {
        replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
            .replacingOccurrences(of: ">", with: "&gt;").replacingOccurrences(of: "\"", with: "&quot;")
    }
}
