plugins {
    alias(libs.plugins.android.library)
    `maven-publish`
}

android {
    namespace = "ai.edgekit.onnxruntime"
    compileSdk = 37

    defaultConfig {
        minSdk = 27 // SharedMemory, where the caches lie
        consumerProguardFiles("consumer-rules.pro")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    publishing.singleVariant("release") { withSourcesJar() }
}

kotlin {
    explicitApi()
}

dependencies {
    api(project(":core"))
    implementation(libs.onnxruntime)
}

publishing.publications.register<MavenPublication>("release") {
    artifactId = "onnxruntime"
    afterEvaluate { from(components["release"]) }
}
