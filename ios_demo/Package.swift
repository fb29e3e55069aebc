// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "EdgeCore",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [.library(name: "EdgeCore", targets: ["EdgeCore"])],
    targets: [
        .target(name: "EdgeCore"),
        .testTarget(name: "EdgeCoreTests", dependencies: ["EdgeCore"]),
    ]
)
