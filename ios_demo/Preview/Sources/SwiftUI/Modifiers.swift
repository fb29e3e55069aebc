public enum Color: String { case green, red, secondary }
public enum UIKeyboardType { case URL }
public enum TextInputAutocapitalization { case never }
public enum TextSelectability { case enabled }
public enum AccessibilityTraits: String { case updatesFrequently }

extension View {
    public func foregroundStyle(_ color: Color) -> some View { each { $0.styles.append(color.rawValue) } }
    public func monospaced() -> some View { each { $0.styles.append("monospaced") } }

    /// What is disabled can be seen, not pressed.
    public func disabled(_ isDisabled: Bool) -> some View {
        each {
            guard isDisabled else { return }
            $0.styles.append("disabled")
            $0.press = nil
        }
    }

    public func navigationTitle(_ title: String) -> some View {
        Group(nodes: [Node(kind: "title", words: title)] + nodes)
    }

    /// What runs once the view is on the screen.
    public func task(_ action: @escaping Action) -> some View {
        Group(nodes: nodes + [Node(kind: "task", press: action)])
    }

    public func alert<T>(
        _ title: String, isPresented: Binding<Bool>, presenting data: T?, @ViewBuilder actions: (T) -> Group,
        @ViewBuilder message: (T) -> Group
    ) -> some View {
        guard isPresented.wrappedValue, let data else { return Group(nodes: nodes) }
        let box = [
            Node(kind: "header", words: title), Node(kind: "message", inside: message(data).nodes),
            Node(kind: "actions", inside: actions(data).nodes),
        ]
        return Group(nodes: nodes + [Node(kind: "alert", inside: box)])
    }

    public func accessibilityLabel(_ label: String) -> some View { each { $0.spoken = label } }
    public func accessibilityAddTraits(_ traits: AccessibilityTraits) -> some View {
        each { $0.styles.append(traits.rawValue) }
    }

    /// What a picker's row stands for.
    public func tag(_ value: some RawRepresentable<String>) -> some View { each { $0.name = value.rawValue } }

    public func keyboardType(_ type: UIKeyboardType) -> some View { self }
    public func autocorrectionDisabled() -> some View { self }
    public func textInputAutocapitalization(_ style: TextInputAutocapitalization) -> some View { self }
    public func textSelection(_ style: TextSelectability) -> some View { self }

    private func each(_ change: (inout Node) -> Void) -> Group {
        Group(nodes: nodes.map { node in
            var node = node
            change(&node)
            return node
        })
    }
}

/// A value that lives elsewhere.
@MainActor
public struct Binding<Value> {
    let read: @MainActor () -> Value
    let write: @MainActor (Value) -> Void

    public init(get: @escaping @MainActor () -> Value, set: @escaping @MainActor (Value) -> Void) {
        read = get
        write = set
    }

    public var wrappedValue: Value { read() }
}

@MainActor @propertyWrapper @dynamicMemberLookup
public struct Bindable<Value: AnyObject> {
    public var wrappedValue: Value
    public var projectedValue: Bindable { self }

    public init(wrappedValue: Value) {
        self.wrappedValue = wrappedValue
    }

    public subscript<Member>(dynamicMember path: ReferenceWritableKeyPath<Value, Member>) -> Binding<Member> {
        Binding(get: { wrappedValue[keyPath: path] }, set: { wrappedValue[keyPath: path] = $0 })
    }
}

/// Kept as long as the app, which is all that the app keeps in one.
@MainActor @propertyWrapper
public struct State<Value> {
    public let wrappedValue: Value

    public init(wrappedValue: Value) {
        self.wrappedValue = wrappedValue
    }
}
