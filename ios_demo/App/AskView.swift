import EdgeCore
import SwiftUI

/// Ask, see the answer grow, see which side answered and why.
struct AskView: View {
    @Bindable var model: AppModel

    var body: some View {
        NavigationStack {
            Form {
                Section {
                    TextField("Prompt", text: $model.prompt, axis: .vertical)
                        .autocorrectionDisabled()
                        .textInputAutocapitalization(.never)
                    Button(model.isBusy ? "Working" : "Ask") { Task { await model.ask() } }
                        .disabled(model.isBusy || model.bundle == nil)
                    if model.isBusy { Button("Stop") { model.stop() } }
                } footer: {
                    Text(model.status)
                }
                if !model.shown.isEmpty {
                    Section("Answer") {
                        Text(model.shown).monospaced().textSelection(.enabled)
                    }
                }
                if let answer = model.answer { AnswerSection(answer: answer) }
                if let budget = model.budget {
                    Section("Budget") {
                        let left = "\(budget.left) of \(budget.allowed) in \(budget.window) prompts"
                        LabeledContent("Calls left", value: left)
                    }
                }
            }
            .navigationTitle("edgekit")
            .alert("Send this prompt to the cloud?", isPresented: isAsked, presenting: model.consent) { _ in
                Button("Send") { model.reply(true) }
                Button("Keep it here", role: .cancel) { model.reply(false) }
            } message: { request in
                Text("\(request.request.prompt)\n\nIt goes to \(request.request.server).")
            }
        }
    }

    private var isAsked: Binding<Bool> {
        // The buttons are the only way out, and SwiftUI may clear this before it runs them.
        Binding(get: { model.consent != nil }, set: { _ in })
    }
}

/// Which side answered, why, and how long it took.
private struct AnswerSection: View {
    let answer: HybridAnswer

    var body: some View {
        Section("Who answered") {
            LabeledContent("Side", value: answer.route == .local ? "this phone" : "the cloud")
            LabeledContent("Why", value: why)
            if let text = answer.answer { LabeledContent("Answer", value: text) }
            LabeledContent("On the phone", value: milliseconds(answer.localMs))
            if let cloudMs = answer.cloudMs { LabeledContent("In the cloud", value: milliseconds(cloudMs)) }
            LabeledContent("Tokens", value: "\(answer.promptTokens) read, \(answer.generatedTokens) written")
            if answer.markerMargin.isFinite {
                let margin = answer.markerMargin.formatted(.number.precision(.fractionLength(2)))
                LabeledContent("Marker's margin", value: margin)
            }
            if let notice = answer.notice { Text(notice).foregroundStyle(.secondary) }
        }
    }

    private var why: String {
        switch answer.reason {
        case "answer": "it gave an answer"
        case "marker": "the policy asked for help"
        case "no_answer": "the policy gave no answer"
        case "budget": "the budget is spent"
        case "offline": "the cloud could not be had"
        case "consent": "you kept the prompt here"
        case "too_long": "the prompt is too long for the phone's model"
        case "device_failed": "the phone's model failed"
        default: answer.reason
        }
    }

    private func milliseconds(_ value: Double) -> String {
        "\(Int(value.rounded())) ms"
    }
}
