// swift-tools-version: 6.0
import PackageDescription

// The app's own sources over stand-ins for Apple's modules; render-on-host.sh lays a copy of them beside the adapter.
let package = Package(
    name: "Preview",
    dependencies: [.package(name: "edgekit", path: "../..")],
    targets: [
        .target(name: "SwiftUI"),
        .target(name: "UIKit"),
        .target(name: "Network"),
        .target(name: "EdgeCoreML", dependencies: [.product(name: "EdgeCore", package: "edgekit")]),
        .executableTarget(
            name: "EdgekitDemo",
            dependencies: [
                "SwiftUI", "UIKit", "Network", "EdgeCoreML", .product(name: "EdgeCore", package: "edgekit"),
            ]),
    ]
)
