plugins {
    alias(libs.plugins.android.library)
    `maven-publish`
}

android {
    namespace = "ai.edgekit.executorch"
    compileSdk = 37

    defaultConfig {
        minSdk = 26 // java.nio.file, which the bundle's check needs
        consumerProguardFiles("consumer-rules.pro")
        buildConfigField("String", "EXECUTORCH_VERSION", "\"${libs.versions.executorch.get()}\"")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    buildFeatures.buildConfig = true

    publishing.singleVariant("release") { withSourcesJar() }
}

kotlin {
    explicitApi()
}

dependencies {
    api(project(":core"))
    implementation(libs.executorch)
}

publishing.publications.register<MavenPublication>("release") {
    artifactId = "executorch"
    afterEvaluate { from(components["release"]) }
}
