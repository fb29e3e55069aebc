import SwiftUI

@main
struct DemoApp: App {
    @State private var model = AppModel()

    var body: some Scene {
        WindowGroup {
            TabView {
                Tab("Ask", systemImage: "questionmark.bubble") { AskView(model: model) }
                Tab("Self-test", systemImage: "checklist") { SelfTestView(model: model) }
                Tab("Settings", systemImage: "gear") { SettingsView(model: model) }
            }
            .task { await model.openFirstBundle() }
        }
    }
}
