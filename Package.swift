// swift-tools-version: 6.0
import PackageDescription

// EdgeCore decides, and runs anywhere. The others put a runtime of Apple's platforms behind it; on other hosts they are
// left out, so that the core is built and tested there without fetching one.
var products: [Product] = [.library(name: "EdgeCore", targets: ["EdgeCore"])]
var runtimes: [Package.Dependency] = []

// What an app's privacy report says of the core's calls; only Apple's systems have one.
let privacy = "PrivacyInfo.xcprivacy"
#if os(macOS)
    let (left, packed): ([String], [Resource]) = ([], [.copy(privacy)])
#else
    let (left, packed): ([String], [Resource]) = ([privacy], [])
#endif
var targets: [Target] = [
    .target(name: "EdgeCore", path: "ios_demo/Sources/EdgeCore", exclude: left, resources: packed),
    .testTarget(name: "EdgeCoreTests", dependencies: ["EdgeCore"], path: "ios_demo/Tests/EdgeCoreTests"),
]

#if os(macOS)
    runtimes = [
        .package(url: "https://github.com/microsoft/onnxruntime-swift-package-manager", from: "1.24.2"),
        .package(url: "https://github.com/pytorch/executorch", branch: "swiftpm-1.4.0"),
    ]
    let executorch = ["executorch", "backend_xnnpack", "kernels_llm", "kernels_optimized", "kernels_quantized"]
        .map { Target.Dependency.product(name: $0, package: "executorch") }
    let onnxruntime = Target.Dependency.product(name: "onnxruntime", package: "onnxruntime-swift-package-manager")
    for (name, libraries) in [("EdgeCoreML", []), ("EdgeONNX", [onnxruntime]), ("EdgeExecuTorch", executorch)] {
        let dependencies: [Target.Dependency] = ["EdgeCore"] + libraries
        products.append(.library(name: name, targets: [name]))
        targets.append(.target(name: name, dependencies: dependencies, path: "ios_demo/Sources/\(name)"))
    }
#endif

let package = Package(
    name: "edgekit",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: products,
    dependencies: runtimes,
    targets: targets
)
