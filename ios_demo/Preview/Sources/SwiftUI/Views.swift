// The part of SwiftUI that the app uses, under the same names, with nodes where SwiftUI has pixels.

@MainActor @preconcurrency
public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
    var nodes: [Node] { get }
}

extension View {
    public var nodes: [Node] { body.nodes }
}

extension View where Body == Never {
    public var body: Never { fatalError("a view of the toolkit has no body") }
}

extension Never: View {
    public typealias Body = Never
}

/// A view of the toolkit itself.
public protocol Drawn: View where Body == Never {}

public struct Group: Drawn {
    public let nodes: [Node]
}

@MainActor @resultBuilder
public enum ViewBuilder {
    public static func buildExpression(_ view: some View) -> [Node] { view.nodes }
    public static func buildBlock(_ parts: [Node]...) -> [Node] { parts.flatMap { $0 } }
    public static func buildOptional(_ part: [Node]?) -> [Node] { part ?? [] }
    public static func buildEither(first part: [Node]) -> [Node] { part }
    public static func buildEither(second part: [Node]) -> [Node] { part }
    public static func buildFinalResult(_ nodes: [Node]) -> Group { Group(nodes: nodes) }
}

public struct Text: Drawn {
    public let nodes: [Node]

    public init(_ words: String) {
        nodes = [Node(kind: "text", words: words)]
    }
}

extension Text {
    public init(_ words: AttributedString) {
        self.init(String(words.characters))
    }
}

/// A choice; the chosen row is marked, and each can be pressed.
public struct Picker: Drawn {
    public let nodes: [Node]

    public init<Value: RawRepresentable<String>>(
        _ title: String, selection: Binding<Value>, @ViewBuilder content: () -> Group
    ) {
        let rows = content().nodes.map { row in
            var row = row
            if row.name == selection.wrappedValue.rawValue { row.styles.append("chosen") }
            let name = row.name
            row.press = { if let value = Value(rawValue: name) { selection.write(value) } }
            return row
        }
        nodes = [Node(kind: "picker", words: title, inside: rows)]
    }
}

public enum ButtonRole: String { case cancel, destructive }

public struct Button: Drawn {
    public let nodes: [Node]

    public init(_ title: String, role: ButtonRole? = nil, action: @escaping @MainActor () -> Void) {
        nodes = [Node(kind: "button", words: title, styles: role.map { [$0.rawValue] } ?? [], press: action)]
    }
}

public struct ShareLink: Drawn {
    public let nodes: [Node]

    public init(_ title: String, item: URL) {
        nodes = [Node(kind: "button", words: title, press: {})]
    }
}

public enum Axis { case horizontal, vertical }

public struct TextField: Drawn {
    public let nodes: [Node]

    public init(_ title: String, text: Binding<String>, axis: Axis = .horizontal) {
        nodes = [Node(kind: "field", words: text.wrappedValue, enter: text.write, name: title)]
    }
}

public struct SecureField: Drawn {
    public let nodes: [Node]

    public init(_ title: String, text: Binding<String>) {
        let dots = String(repeating: "\u{2022}", count: text.wrappedValue.count)
        nodes = [Node(kind: "field", words: dots, enter: text.write, name: title)]
    }
}

public struct Slider: Drawn {
    public let nodes: [Node]

    public init(
        value: Binding<Double>, in bounds: ClosedRange<Double>, step: Double, @ViewBuilder label: () -> Group
    ) {
        let name = label().nodes.map(\.words).joined()
        nodes = [Node(kind: "slider", words: "\(value.wrappedValue)", name: name)]
    }
}

public struct LabeledContent: Drawn {
    public let nodes: [Node]

    public init(_ title: String, value: String) {
        self.init(content: { Text(value) }, label: { Text(title) })
    }

    public init(@ViewBuilder content: () -> Group, @ViewBuilder label: () -> Group) {
        let parts = [Node(kind: "label", inside: label().nodes), Node(kind: "value", inside: content().nodes)]
        nodes = [Node(kind: "row", inside: parts)]
    }
}

public struct ForEach: Drawn {
    public let nodes: [Node]

    public init<Data: Collection, ID: Hashable>(
        _ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: (Data.Element) -> Group
    ) {
        precondition(Set(data.map { $0[keyPath: id] }).count == data.count, "two elements with one id")
        nodes = data.flatMap { content($0).nodes }
    }
}

public struct Section: Drawn {
    public let nodes: [Node]

    public init(_ title: String, @ViewBuilder content: () -> Group) {
        nodes = [Node(kind: "section", inside: [Node(kind: "header", words: title), Self.rows(content().nodes)])]
    }

    public init(@ViewBuilder content: () -> Group, @ViewBuilder footer: () -> Group) {
        let below = Node(kind: "footer", inside: footer().nodes)
        nodes = [Node(kind: "section", inside: [Self.rows(content().nodes), below])]
    }

    static func rows(_ nodes: [Node]) -> Node { Node(kind: "rows", inside: nodes) }
}

/// Sections below each other; loose rows between them make a section of their own.
public struct Form: Drawn {
    public let nodes: [Node]

    public init(@ViewBuilder content: () -> Group) {
        var sections: [Node] = []
        var loose: [Node] = []
        for node in content().nodes + [Node(kind: "section")] {
            if node.kind != "section" {
                loose.append(node)
                continue
            }
            if !loose.isEmpty { sections.append(Node(kind: "section", inside: [Section.rows(loose)])) }
            loose = []
            sections.append(node)
        }
        nodes = [Node(kind: "list", inside: sections.dropLast())]
    }
}

public typealias List = Form

public struct NavigationStack: Drawn {
    public let nodes: [Node]

    public init(@ViewBuilder root: () -> Group) {
        nodes = [Node(kind: "stack", inside: root().nodes)]
    }
}

public struct TabView: Drawn {
    public let nodes: [Node]

    public init(@ViewBuilder content: () -> Group) {
        nodes = [Node(kind: "tabs", inside: content().nodes)]
    }
}

public struct Tab: Drawn {
    public let nodes: [Node]

    public init(_ title: String, systemImage: String, @ViewBuilder content: () -> Group) {
        nodes = [Node(kind: "tab", inside: content().nodes, name: title)]
    }
}
