import EdgeCore
import SwiftUI

/// Does this phone decide what the host decided? Every recorded case, and the report for `edgekit verify`.
struct SelfTestView: View {
    let model: AppModel

    var body: some View {
        NavigationStack {
            List {
                Section {
                    Button(model.isBusy ? "Working" : "Run") { Task { await model.runSelfTest() } }
                        .disabled(model.isBusy || model.bundle == nil)
                    if model.isBusy { Button("Stop") { model.stop() } }
                    if let report = model.report { ShareLink("Export the report", item: report) }
                } footer: {
                    Text(summary)
                }
                ForEach(model.cases, id: \.id) { item in
                    LabeledContent {
                        Text(item.matches ? "MATCH" : "MISMATCH").foregroundStyle(item.matches ? .green : .red)
                    } label: {
                        Text(item.id)
                        Text(describe(item.decision))
                    }
                }
            }
            .navigationTitle("Self-test")
        }
    }

    private func describe(_ decision: Decision) -> String {
        "\(decision.route.rawValue), \(decision.reason), \(decision.answer ?? "no answer".localized)"
    }

    private var summary: String {
        if model.cases.isEmpty { return model.status }
        let mismatched = model.cases.count { !$0.matches }
        return "\(model.cases.count - mismatched) MATCH, \(mismatched) MISMATCH"
    }
}
